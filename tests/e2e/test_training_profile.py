"""The script of `docker compose run train` makes a bundle, and the server beside it takes that up."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.e2e.processes import ENVIRONMENT, MOMOK, ROOT, get, quick_recipe, serving


def train(
    dataset: Path, folder: Path, name: str, *words: str, programs: Path = MOMOK.parent
) -> subprocess.CompletedProcess[str]:
    environment = ENVIRONMENT | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "RUNS": str(folder / "runs"),
        "BUNDLES": str(folder / "bundles"),
        "NAME": name,
    }
    return subprocess.run(
        ["/bin/sh", ROOT / "deploy" / "train.sh", dataset, *quick_recipe(), *words],
        text=True, capture_output=True, check=False, timeout=120, env=environment,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, work: Path) -> Path:
    """Volumes as the first start leaves them: a bundle, and a link to it."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "current").symlink_to(work / "bundle")
    return tmp_path


def test_what_is_trained_is_served(folder: Path, work: Path) -> None:
    link = folder / "bundles" / "current"
    with serving(link, folder, "--watch") as (url, _):
        before = version(url)
        done = train(work / "dataset", folder, "next")
        assert done.returncode == 0, done.stderr
        assert link.readlink() == Path("next")
        deadline = monotonic() + 30
        while version(url) == before:
            assert monotonic() < deadline, "the new bundle is not served"
            sleep(0.3)
    assert {path.name for path in (folder / "bundles").iterdir()} == {"current", "next"}


def test_what_fails_turns_no_link(folder: Path) -> None:
    done = train(folder / "no-dataset", folder, "next")
    assert done.returncode != 0
    assert "no-dataset" in done.stderr
    assert (folder / "bundles" / "current").readlink() != Path("next")


def test_what_was_interrupted_goes_on(folder: Path, work: Path) -> None:
    """It is stopped after each of its three commands, the first time that this one has ended."""
    programs = folder / "programs"
    programs.mkdir()
    stub = programs / "momok"
    stub.write_text(
        f'#!/bin/sh\n{MOMOK} "$@" || exit\n[ -e {programs}/$1 ] || {{ touch {programs}/$1; exit 130; }}\n',
        encoding="utf-8",
    )
    stub.chmod(0o755)
    for command in ("train", "export", "check"):
        assert train(work / "dataset", folder, "next", programs=programs).returncode == 130
        assert (programs / command).exists()
        assert (folder / "bundles" / "current").readlink() != Path("next")
    done = train(work / "dataset", folder, "next", programs=programs)
    assert done.returncode == 0, done.stderr
    assert (folder / "bundles" / "current").readlink() == Path("next")


def test_what_goes_on_takes_the_words_too(folder: Path, work: Path) -> None:
    """A longer schedule is taken, but not served by the bundle from before; another model is refused."""
    assert train(work / "dataset", folder, "next").returncode == 0
    (folder / "bundles" / "current").unlink()
    done = train(work / "dataset", folder, "next", "--set", "network.num_experts=2")
    assert done.returncode == 2
    assert "--resume may only change" in done.stderr
    done = train(work / "dataset", folder, "next", "--set", "training.max_epochs=40")
    assert done.returncode == 2
    assert "has learned since" in done.stderr
    assert "choose another NAME" in done.stderr
    assert not (folder / "bundles" / "current").exists()


def test_the_bundle_of_another_is_not_taken_for_the_runs(folder: Path, work: Path) -> None:
    (folder / "bundles" / "next").mkdir()
    done = train(work / "dataset", folder, "next")
    assert done.returncode == 2
    assert "is the bundle of no run" in done.stderr
    assert not (folder / "runs" / "next").exists()


def version(url: str) -> str:
    answer: str = json.loads(get(f"{url}/v1/model"))["version"]
    return answer
