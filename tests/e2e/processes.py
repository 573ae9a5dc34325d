"""Real processes: the command line as a user runs it, and a server behind a real port."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from time import monotonic, sleep

from momok.cli import main
from tests.missing import missing

ROOT = Path(__file__).resolve().parents[2]
MOMOK = Path(sys.executable).parent / "momok"
# One thread each: tests share a small machine, and their graphs are smaller still.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def momok(*arguments: object, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    return subprocess.run(
        [MOMOK, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=ENVIRONMENT,
        check=False,
    )


def refusal(*arguments: object) -> str:
    """What a command says to a mistake: exit code 2, one line on standard error, nothing else.

    Run within this process, as starting Python and torch for every mistake would take minutes.
    """
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    said = err.getvalue()
    assert code == 2, said
    assert out.getvalue() == ""
    assert said.startswith("momok: ")
    assert said.count("\n") == 1
    return said


def has_ended(pid: int) -> bool:
    """Also where nobody has taken notice of it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@contextmanager
def running(*command: object, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output goes to a file; killed at the end if it has not ended itself."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=file, stderr=subprocess.STDOUT, env=ENVIRONMENT
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=30)


def wait_for(pattern: str, output: Path, process: subprocess.Popen[bytes], timeout_s: float = 120) -> str:
    """The first match of ``pattern`` (its first group, if it has one) in what a process prints."""
    deadline = monotonic() + timeout_s
    while monotonic() < deadline:
        text = output.read_text(encoding="utf-8", errors="replace")
        if match := re.search(pattern, text):
            return match[match.lastindex or 0]
        assert process.poll() is None, f"ended with {process.returncode}:\n{text}"
        sleep(0.1)
    raise AssertionError(f"{pattern!r} did not come in {timeout_s} s:\n{text}")


@contextmanager
def serving(bundle: Path, tmp_path: Path, *flags: object) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`momok serve` on a free port: its address, and the process."""
    output = tmp_path / "serve.log"
    command = (MOMOK, "serve", bundle, "--port", 0, "--device", "cpu", *flags)
    with running(*command, output=output) as process:
        yield wait_for(r"serving at (http://\S+)", output, process), process


def get(url: str, timeout_s: float = 10) -> str:
    with urllib.request.urlopen(url, timeout=timeout_s) as response:
        text: str = response.read().decode()
        return text


def stop(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
    """Ask a process to end; its exit code."""
    process.send_signal(number)
    return process.wait(timeout=60)


def needed(program: str) -> Path:
    """Where a program of the system is."""
    found = shutil.which(program)
    return missing(f"{program} is not installed; .ci/run installs it") if found is None else Path(found)


def quick_recipe() -> Sequence[str]:
    """Overrides that make a tiny model of any dataset."""
    fields = {
        "modalities.structure.width": 8,
        "network.relation_width": 8,
        "network.joint_width": 8,
        "training.batch_size": 16,
        "training.learning_rate": 0.01,
        "training.max_epochs": 3,
    }
    return [part for key, value in fields.items() for part in ("--set", f"{key}={value}")]
