"""Benchmarks run: those of `make bench` as it calls them, and retrieval with the scores of its bundle."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from momok.training.export.export import export_run
from tests.training.builders import CPU, make_recipe, start

ROOT = Path(__file__).resolve().parent.parent


def bundle_of(model: str, folder: Path) -> Path:
    recipe = make_recipe(max_epochs=1)
    if model != recipe.model:
        recipe = recipe.changed({"model": model, "network.dim": 3})
    trainer = start(folder, recipe)
    trainer.train()
    export_run(trainer.run, folder / "bundle", dataset=trainer.run.dataset(), device=CPU)
    return folder / "bundle"


@pytest.mark.parametrize(("model", "rotates"), [("momok", False), ("adamf", True)])
def test_retrieval_is_measured_by_the_scores_of_the_bundle(
    model: str,
    rotates: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script, bundle = str(ROOT / "benchmarks" / "retrieval.py"), bundle_of(model, tmp_path)
    table, _, _ = runpy.run_path(script)["_of_bundle"](bundle)
    assert (table.branches[0].geometry == "rotate") == rotates
    monkeypatch.setattr(sys, "argv", [script, "--bundle", str(bundle), "--rounds", "1", "--json"])
    runpy.run_path(script, run_name="__main__")
    result = json.loads(capsys.readouterr().out)
    assert "scan_1" in result
    for name in ("scan-bfloat16_1", "faiss_1", "proven_1", "bandwidth_scan"):
        assert (name in result) == (not rotates)


def test_discovery_is_measured_beside_what_it_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script, bundle = str(ROOT / "benchmarks" / "discover.py"), bundle_of("momok", tmp_path)
    monkeypatch.setattr(sys, "argv", [script, str(bundle), "--rounds", "1", "--json"])
    runpy.run_path(script, run_name="__main__")
    result = json.loads(capsys.readouterr().out)
    assert result["queries"] > 0
    for name in ("single", "batched"):
        ratio = result["discover_queries_s"] / result[f"{name}_queries_s"]
        assert result[f"discover_over_{name}"] == pytest.approx(ratio, rel=0.02, abs=0.01)


def test_make_bench_names_scripts_that_need_no_more() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    target = makefile.split("\nbench:")[1].split("\n\n")[0]
    called = re.findall(r"python benchmarks/(\w+\.py)(.*)", target)
    assert called
    assert "for script" not in target
    for script, words in called:
        text = (ROOT / "benchmarks" / script).read_text(encoding="utf-8")
        for flag in re.findall(r'"(--[\w-]+)"[^)]*required=True', text):
            assert flag in words, f"{script} wants {flag}"
        for flag in re.findall(r"--[\w-]+", words):
            assert f'"{flag}"' in text or "side_by_side" in text, f"{script} takes no {flag}"
