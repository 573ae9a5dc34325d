"""A small bundle made by hand: random weights, chosen tables, chosen facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import SecretStr

from momok.model.answer import Query
from momok.model.bundle.manifest import BranchShape, GoldenQuery, IndexInfo, Manifest
from momok.model.bundle.names import Names
from momok.model.bundle.vocabulary import write_vocabulary
from momok.model.bundle.writer import save_bundle
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import Candidates, LinkPredictor, ModalityShape, build_model
from momok.model.networks.momok import MoMoKConfig
from momok.model.scorer import Scorer
from momok.model.scores import Decision
from momok.service.settings import Settings

MODALITIES = ("structure", "image", "type")
WIDTH = 6
NUM_RELATIONS = 3


@dataclass(frozen=True)
class Made:
    """What the bundle at ``path`` holds, for oracles to read."""

    path: Path
    model: LinkPredictor
    table: dict[str, torch.Tensor]
    facts: dict[str, np.ndarray]
    keys: list[str]


def make_bundle(
    path: Path,
    *,
    decision: Decision,
    num_entities: int = 60,
    seed: int = 0,
    renamed: Mapping[int, str] | None = None,
) -> Made:
    """Entity ``e7`` is labelled ``Entity 7``; entities 3 and 4 share the label ``Twin``.

    A third of the candidates are copies of others, so that ties abound; odd entities lack the image.
    Entity 0 has relation ``r0`` to every third entity: a hub. Entities 0 and 5 have pictures.
    ``renamed`` are other keys, by entity.
    """
    torch.manual_seed(seed)
    model = _model(decision, num_entities)
    with torch.inference_mode():
        computed = model.candidates()
    copied = {name: rows.clone() for name, rows in computed.vectors.items()}
    for rows in copied.values():
        rows *= 40  # Untrained experts give vectors so short that all scores would be alike.
        rows[num_entities // 3 : 2 * (num_entities // 3)] = rows[: num_entities // 3]
    candidates = Candidates(copied, computed.modality_weights, computed.expert_gates)
    facts = _facts(num_entities, seed)
    known = FilterIndex.from_facts(facts, num_entities=num_entities, num_relations=NUM_RELATIONS)
    keys = [(renamed or {}).get(index, f"e{index}") for index in range(num_entities)]
    labels = ["Twin" if index in (3, 4) else f"Entity {index}" for index in range(num_entities)]
    answers = Scorer(model, candidates, known).answer([Query(1, 0, 5, False), Query(2, 4, 5, False)])
    golden = [
        GoldenQuery(
            entity=answer.query.entity,
            relation=answer.query.relation,
            entities=answer.ranking.entities.tolist(),
            scores=answer.ranking.scores.tolist(),
        )
        for answer in answers
    ]

    def write_names(file: Path) -> None:
        write_vocabulary(
            file,
            entities=Names("entity", keys, labels),
            relations=Names("relation", [f"r{i}" for i in range(NUM_RELATIONS)], ["likes", "near", "of"]),
            descriptions=["the first"] + [""] * (num_entities - 1),
            degrees=np.arange(num_entities).tolist(),
            relation_counts=[5, 6, 7],
        )

    manifest = Manifest(
        created_at="2026-01-01T00:00:00+00:00",
        name="handmade",
        model=model.config.model_dump(mode="json"),
        branches=[BranchShape.of(branch) for branch in model.branches],
        decision=decision,
        counts={"entities": num_entities, "relations": NUM_RELATIONS},
        fingerprint="0" * 64,
        index=IndexInfo(),
        metrics={"test": {"protocol": "none", "metrics": {"mrr": 0.5}}},
        golden=golden,
        provenance={"command": "made by hand"},
        files={},
    )

    save_bundle(
        path,
        model=model,
        candidates=candidates,
        known=known,
        write_names=write_names,
        manifest=manifest,
        check=lambda bundle: None,
        pictures=_pictures(path.parent),
    )
    return Made(path, model, copied, facts, keys)


def _pictures(folder: Path) -> dict[int, Path]:
    files = {0: folder / "red.png", 5: folder / "blue.jpg"}
    for file in files.values():
        Image.new("RGB", (3, 2), file.stem).save(file)
    return files


def _model(decision: Decision, num_entities: int) -> LinkPredictor:
    config = MoMoKConfig(
        num_entities=num_entities,
        num_relations=NUM_RELATIONS,
        modalities=tuple(ModalityShape(name=name, input_width=WIDTH, width=WIDTH) for name in MODALITIES),
        decision=decision,
        relation_width=WIDTH,
        joint_width=WIDTH,
        gate_noise=False,
    )
    model = build_model(config).eval()
    model.present[1::2, 1] = False
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                parameter.normal_()
    return model


def _facts(num_entities: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def draw(count: int) -> np.ndarray:
        ends = random.integers(num_entities, size=(count, 2))
        return np.column_stack([ends[:, 0], random.integers(NUM_RELATIONS, size=count), ends[:, 1]])

    hub = np.array([[0, 0, tail] for tail in range(0, num_entities, 3)])
    return {"train": np.concatenate([hub, draw(4 * num_entities)]), "valid": draw(20), "test": draw(20)}


ADMIN_KEY = "an-admin-key-for-tests"
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


def admin_settings(bundle: Path, **fields: Any) -> Settings:
    """Settings of a server whose bundle ``ADMIN`` may exchange."""
    fields = {"engine": "scan"} | fields  # What is measured to be quicker differs from run to run.
    return Settings(bundle=bundle, device="cpu", admin_keys=SecretStr(ADMIN_KEY), **fields)
