"""Precision: what auto means is settled once, and bfloat16 trains to nearly the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from momok.cli import main
from momok.training.fit.precision import choose_precision, products_in
from momok.training.fit.run import Run
from momok.training.fit.start import resume_training
from tests.training.builders import CPU, after, events, make_recipe, start, write_dataset


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"amx_bf16": True}, "bfloat16"), ({"avx512_bf16": True}, "bfloat16"), ({"avx2": True}, "float32")],
)
def test_auto_takes_bfloat16_where_the_processor_multiplies_it(
    capabilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("auto", CPU) == expected
    assert choose_precision("float32", CPU) == "float32"
    assert choose_precision("bfloat16", CPU) == "bfloat16"


def test_auto_is_float32_where_torch_cannot_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", CPU) == "float32"


def test_products_alone_change() -> None:
    a_NN = torch.full((4, 4), 1 / 3)
    with products_in("bfloat16", CPU):
        assert (a_NN @ a_NN).dtype == torch.bfloat16
        assert (a_NN + a_NN).dtype == torch.float32
    with products_in("float32", CPU):
        assert (a_NN @ a_NN).dtype == torch.float32


def test_a_run_remembers_what_auto_meant(tmp_path: Path) -> None:
    start(tmp_path, make_recipe(precision="auto"))
    assert Run.open(tmp_path / "run").recipe.training.precision == choose_precision("auto", CPU)


def test_bfloat16_learns_what_float32_learns(tmp_path: Path) -> None:
    losses, weights = {}, {}
    for precision in ("float32", "bfloat16"):
        trainer = start(tmp_path / precision, make_recipe(precision=precision, max_epochs=20))
        trainer.train()
        losses[precision] = events(tmp_path / precision / "run", "epoch")[-1]["loss"]
        weights[precision] = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
        assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)
    assert not torch.equal(weights["bfloat16"], weights["float32"])  # It did round.


def test_bfloat16_resumes_bit_equal(tmp_path: Path) -> None:
    recipe = make_recipe(precision="bfloat16")
    whole = start(tmp_path / "whole", recipe)
    whole.train()
    start(tmp_path / "parts", recipe).train(stop=after(5))
    resumed = resume_training(tmp_path / "parts" / "run", CPU)
    resumed.train()
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_command_line_chooses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = write_dataset(tmp_path), tmp_path / "run"
    command = ["train", str(data), "--out", str(run), "--set", "training.max_epochs=1", "--device", "cpu"]
    assert main([*command, "--precision", "bfloat16"]) == 0
    assert Run.open(run).recipe.training.precision == "bfloat16"
    assert main(["train", "--resume", "--out", str(run), "--precision", "float32"]) == 2
    assert "may only change" in capsys.readouterr().err
