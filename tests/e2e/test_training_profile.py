"""The script of `docker compose run train` makes a bundle, and the server beside it takes that up."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.e2e.processes import ENVIRONMENT, MOMOK, ROOT, get, quick_recipe, serving


def train(dataset: Path, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    environment = ENVIRONMENT | {
        "PATH": f"{MOMOK.parent}:{os.environ['PATH']}",
        "RUNS": str(folder / "runs"),
        "BUNDLES": str(folder / "bundles"),
        "NAME": name,
    }
    return subprocess.run(
        ["/bin/sh", ROOT / "deploy" / "train.sh", dataset, *quick_recipe()],
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


def version(url: str) -> str:
    answer: str = json.loads(get(f"{url}/v1/model"))["version"]
    return answer
