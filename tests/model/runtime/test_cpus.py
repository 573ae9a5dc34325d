"""Threads follow the control group, read from files as the kernel shows them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from momok.model.runtime.cpus import THREADS, cpu_limits, threads_beside_another, usable_cpus

V2 = "0::/"
V1 = "12:cpuset:/box\n4:cpu,cpuacct:/box\n1:name=systemd:/box"
ACCOUNTED = "cpu,cpuacct/box/cpu.cfs_"


def made(folder: Path, groups: str, files: dict[str, str]) -> tuple[Path, Path]:
    root = folder / "cgroup"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n", encoding="utf-8")
    (folder / "groups").write_text(f"{groups}\n", encoding="utf-8")
    return folder / "groups", root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        (V2, {"cpu.max": "150000 100000"}, 1.5),
        (V2, {"cpu.max": "max 100000"}, None),
        (V2, {"cpu.max": "nonsense"}, None),
        (V2, {}, None),
        ("0::/a/b", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "50000 100000"}, 0.5),
        ("0::/seen/from/outside", {"cpu.max": "200000 100000"}, 2),
        (V1, {f"{ACCOUNTED}quota_us": "50000", f"{ACCOUNTED}period_us": "100000"}, 0.5),
        (V1, {f"{ACCOUNTED}quota_us": "-1", f"{ACCOUNTED}period_us": "100000"}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        (V1, {"cpuset/box/cpu.max": "100000 100000"}, None),
    ],
)  # fmt: skip
def test_limits_of_both_versions(
    groups: str, files: dict[str, str], expected: float | None, tmp_path: Path
) -> None:
    assert min(cpu_limits(*made(tmp_path, groups, files)), default=None) == expected


def test_a_system_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert list(cpu_limits(tmp_path / "none", tmp_path / "none")) == []
    assert usable_cpus(tmp_path / "none", tmp_path / "none") == len(os.sched_getaffinity(0))


def test_a_part_of_a_processor_is_one(tmp_path: Path) -> None:
    assert usable_cpus(*made(tmp_path, V2, {"cpu.max": "10000 100000"})) == 1


@pytest.mark.parametrize(("variable", "expected"), [(None, "1 1"), ("2", "2 2")])
def test_torch_and_faiss_follow(variable: str | None, expected: str, tmp_path: Path) -> None:
    groups, root = made(tmp_path, V2, {"cpu.max": "50000 100000"})
    script = (
        "import sys; from pathlib import Path; from momok.model.runtime.cpus import follow_cpu_limit\n"
        "follow_cpu_limit(*map(Path, sys.argv[1:]))\n"
        "import faiss, torch; print(torch.get_num_threads(), faiss.omp_get_max_threads())"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    if variable is not None:
        environment["OMP_NUM_THREADS"] = variable
    done = subprocess.run(
        [sys.executable, "-c", script, groups, root],
        capture_output=True, text=True, check=True, env=environment, timeout=120,
    )  # fmt: skip
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("cpus", "given", "expected"),
    [(4, None, 3), (2, None, 1), (1, None, 1), (4, "4", 4)],  # An operator's number stays.
)
def test_one_processor_is_left_to_another_process(
    cpus: int, given: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("momok.model.runtime.cpus.usable_cpus", lambda: cpus)
    monkeypatch.setattr(torch, "get_num_threads", lambda: cpus)
    monkeypatch.delenv(THREADS, raising=False)
    if given is not None:
        monkeypatch.setenv(THREADS, given)
    assert threads_beside_another() == expected
