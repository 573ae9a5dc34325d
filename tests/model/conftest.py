"""Models small enough for double loops, with nothing in them left at zero, and a bundle of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from momok.model.bundle.manifest import BranchShape, GoldenQuery, IndexInfo, Manifest
from momok.model.bundle.names import Names
from momok.model.bundle.vocabulary import write_vocabulary
from momok.model.bundle.writer import save_bundle
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor, build_model, parse_config
from momok.model.networks.modality import ModalityInput
from momok.model.scores import Decision

NUM_ENTITIES, NUM_RELATIONS = 9, 2
SIZES: dict[str, dict[str, int]] = {
    "momok": {"relation_width": 4, "joint_width": 5},
    "adamf": {"dim": 3, "margin": 5},
    "mocme": {"dim": 3, "margin": 5, "hidden_width": 4},
}
"""Widths of each model's own parts; a model that is not here gets its defaults."""

# Names that attributes of torch modules or dictionaries have too; "keys" is reduced by a learned map.
MODALITIES = [("structure", 6, 6), ("type", 5, 5), ("keys", 7, 4), ("values", 3, 3), ("text", 4, 4)]


def _make_model(
    name: str,
    num_modalities: int,
    *,
    num_entities: int = NUM_ENTITIES,
    num_relations: int = NUM_RELATIONS,
    decision: Decision | None = None,
    seed: int = 0,
) -> LinkPredictor:
    shapes = MODALITIES[:num_modalities]
    config = parse_config(
        {
            "model": name,
            "num_entities": num_entities,
            "num_relations": num_relations,
            "modalities": [
                {"name": modality, "input_width": input_width, "width": width, "learned": not position}
                for position, (modality, input_width, width) in enumerate(shapes)
            ],
            **SIZES.get(name, {}),
            **({} if decision is None else {"decision": decision}),
        }
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(config)
    model.load_inputs(
        [
            ModalityInput(
                torch.randn(num_entities, input_width, generator=generator),
                width,
                # All have the first; entity 0 has nothing else, entity 1 lacks the second, and so on.
                torch.tensor(
                    [not position or entity % 4 >= min(position, 2) for entity in range(num_entities)]
                ),
            )
            for position, (_, input_width, width) in enumerate(shapes)
        ]
    )
    perturb(model, generator)
    return model.eval()


def perturb(model: LinkPredictor, generator: torch.Generator) -> None:
    """Move every parameter and running statistic off its start: zero gates would hide the temperature."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
            if name.endswith("complementarity"):
                buffer.copy_(-0.5 * torch.rand(buffer.shape, generator=generator))


@pytest.fixture(scope="session")
def make_model() -> Callable[..., LinkPredictor]:
    """``make_model(name, num_modalities, **options)``: a perturbed model in evaluation mode."""
    return _make_model


def _write_bundle(path: Path, model: LinkPredictor, facts: dict[str, np.ndarray]) -> None:
    num_entities, num_relations = model.config.num_entities, model.config.num_relations
    entities = Names(
        "entity", [f"Q{index}" for index in range(num_entities)], [f"entity {i}" for i in range(num_entities)]
    )
    relations = Names(
        "relation",
        [f"P{index}" for index in range(num_relations)],
        [f"rel {i}" for i in range(num_relations)],
    )

    def write_names(file: Path) -> None:
        write_vocabulary(
            file,
            entities=entities,
            relations=relations,
            descriptions=["" for _ in entities.keys],
            degrees=[0 for _ in entities.keys],
            relation_counts=[0 for _ in relations.keys],
        )

    manifest = Manifest(
        created_at="2025-01-01T00:00:00+00:00",
        name="small",
        model=model.config.model_dump(mode="json"),
        branches=[BranchShape.of(branch) for branch in model.branches],
        decision=model.decision,
        counts={"entities": num_entities, "relations": num_relations},
        fingerprint="none",
        index=IndexInfo(),
        metrics={},
        golden=[GoldenQuery(entity=0, relation=0, entities=[0], scores=[0.0])],
        provenance={},
        files={},
    )

    with torch.inference_mode():
        candidates = model.candidates()
    save_bundle(
        path,
        model=model,
        candidates=candidates,
        known=FilterIndex.from_facts(facts, num_entities=num_entities, num_relations=num_relations),
        write_names=write_names,
        manifest=manifest,
        check=lambda bundle: None,
    )


def some_facts(sizes: Sequence[int], num_entities: int, num_relations: int) -> dict[str, np.ndarray]:
    """Random facts of each split, int64[num_facts, 3]; the last relation is never used."""
    rng = np.random.default_rng(0)
    high = [num_entities, num_relations - 1, num_entities]
    return {
        split: rng.integers(0, high, size=(size, 3))
        for split, size in zip(("train", "valid", "test"), sizes, strict=True)
    }


@pytest.fixture(scope="session")
def small_model() -> LinkPredictor:
    """Forty entities in three modalities, some absent."""
    return _make_model("momok", 3, num_entities=40, num_relations=4, decision="mean_sigmoid")


@pytest.fixture(scope="session")
def facts() -> dict[str, np.ndarray]:
    """The facts of the small bundle by split; relation 3 occurs in none."""
    return some_facts((60, 10, 10), num_entities=40, num_relations=4)


@pytest.fixture(scope="session")
def small_bundle(
    small_model: LinkPredictor, facts: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle of the small model; read it, or copy it before damaging it."""
    path: Path = tmp_path_factory.mktemp("bundles") / "small"
    _write_bundle(path, small_model, facts)
    return path


@pytest.fixture(scope="session")
def write_bundle() -> Callable[[Path, LinkPredictor, dict[str, np.ndarray]], None]:
    """``write_bundle(path, model, facts)``."""
    return _write_bundle
