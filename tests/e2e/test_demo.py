"""`momok demo`: it builds, serves, answers, and starts again from what it built, whatever the ranks are."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.processes import MOMOK, get, needed, running, stop, wait_for
from tests.test_docs import curls

LAST_LINE = r"try it: curl (.*)"


def run_curl(command_line: str) -> str:
    curl = str(needed("curl"))
    words = [curl, "--noproxy", "*", *shlex.split(command_line)[1:]]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_demo_builds_serves_answers_and_starts_again_from_what_it_built(tmp_path: Path) -> None:
    command = (MOMOK, "demo", "--directory", tmp_path / "demo", "--port", 0)
    output = tmp_path / "first.log"
    with running(*command, output=output) as process:
        url = wait_for(r"serving at (http://\S+)", output, process, timeout_s=240)
        wait_for(LAST_LINE, output, process)
        model = json.loads(get(f"{url}/v1/model"))
        assert model["modalities"] == ["structure", "image", "text", "numeric"]
        flag = json.loads(get(f"{url}/v1/entities/NOR"))["picture"]
        with urllib.request.urlopen(f"{url}{flag}", timeout=10) as response:
            assert response.read() == (tmp_path / "demo" / "dataset" / "pictures" / "NOR.png").read_bytes()
        for command_line in curls():
            if "Ferron" not in command_line and "MOMOK_KEY" not in command_line:  # Of other graphs.
                answer = json.loads(run_curl(command_line.replace("http://127.0.0.1:8000", url)))
                assert "status" not in answer, answer
        with pytest.raises(urllib.error.HTTPError, match="404"):  # No entity has the key NOR/picture.
            get(f"{url}/v1/entities/NOR%2Fpicture")
        assert stop(process, signal.SIGINT) == 0
    printed = output.read_text(encoding="utf-8")
    rank, total, new = map(
        int, re.findall(r"held out of training, and right: .+, rank (\d+) of (\d+), or (\d+)", printed)[0]
    )
    assert 1 <= new <= rank <= total == model["counts"]["entities"]
    assert "modalities trusted: structure" in printed

    again = tmp_path / "second.log"
    with running(*command, output=again) as process:
        wait_for(LAST_LINE, again, process, timeout_s=60)
        assert stop(process, signal.SIGTERM) == 0
    assert "training" not in again.read_text(encoding="utf-8").split("held out")[0]
