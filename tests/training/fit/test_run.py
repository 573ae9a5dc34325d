"""A run says which code made it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from momok.training.fit import run as run_module
from momok.training.fit.preparation import configure, fit_inputs
from momok.training.fit.run import Run
from tests.training.builders import make_dataset, make_recipe


def git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    done = subprocess.run(["git", *author, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_our_code_and_of_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it lies in an environment within a checkout of something else, and then as a part of it."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "theirs")
    ours = tmp_path / "lib" / "run.py"
    ours.parent.mkdir()
    ours.touch()
    monkeypatch.setattr(run_module, "__file__", str(ours))
    recipe, dataset = make_recipe(), make_dataset()
    config = configure(recipe, dataset, fit_inputs(recipe, dataset))

    def commit() -> str | None:
        found: str | None = Run.describe(tmp_path, dataset, tmp_path, recipe, config).provenance["git"]
        return found

    assert commit() is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "ours")
    assert commit() == git(tmp_path, "rev-parse", "--short=12", "HEAD")
