"""The protocol subclass works with the newest uvicorn too, whatever version is pinned."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.processes import ROOT
from tests.missing import missing


def test_the_protocol_works_with_the_newest_release(tmp_path: Path) -> None:
    options = ["--quiet", "--no-deps", "--target", str(tmp_path)]
    pip = [sys.executable, "-m", "pip", "install", *options, "uvicorn"]
    made = subprocess.run(pip, capture_output=True, text=True, check=False, timeout=120)
    if made.returncode:
        missing("no package index can be reached")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    which = [sys.executable, "-c", "import uvicorn; print(uvicorn.__file__)"]
    used = subprocess.run(which, env=environment, capture_output=True, text=True, check=True)
    assert used.stdout.startswith(str(tmp_path)), "the newest one, not the pinned one"
    tests = [sys.executable, "-m", "pytest", "-q", "tests/service/edge/test_protocol.py"]
    done = subprocess.run(tests, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
