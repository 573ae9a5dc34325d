"""The Answerer without HTTP: what it refuses to serve."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from momok.commands.text import answer_lines
from momok.model.bundle.bundle import MANIFEST, BundleError
from momok.service.answering.answerer import Answerer
from momok.service.contract.errors import pointer
from momok.service.contract.schemas import PredictRequest
from tests.service.builders import make_bundle


def test_golden_queries_answered_wrong_stop_a_bundle(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle", decision="sum")
    file = made.path / MANIFEST
    manifest = json.loads(file.read_text(encoding="utf-8"))
    manifest["golden"][1]["scores"][0] += 1
    file.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match="golden query"):
        Answerer.open(made.path, "cpu")


def test_golden_answers_in_another_order_stop_a_bundle(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle", decision="sum")
    file = made.path / MANIFEST
    manifest = json.loads(file.read_text(encoding="utf-8"))
    manifest["golden"][0]["entities"].reverse()
    file.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match="golden query"):
        Answerer.open(made.path, "cpu")


def test_what_the_command_line_prints_holds_the_answer(tmp_path: Path) -> None:
    answerer = Answerer.open(make_bundle(tmp_path / "bundle", decision="mean_sigmoid").path, "cpu")
    request = PredictRequest.model_validate({"queries": [{"head": "e1", "relation": "likes"}], "k": 4})
    response = answerer.predict(request)
    text = "\n".join(answer_lines(response))
    assert "Entity 1 — likes — ?" in text
    for offer in response.answers[0].candidates:
        assert offer.entity.label in text
    assert "experts of image: absent" in text
    assert "mean_probability" in text
    assert all(0 < offer.score < 1 for offer in response.answers[0].candidates)


def test_pointers_escape() -> None:
    assert pointer("a/b", "c~d", 0) == "/a~1b/c~0d/0"
