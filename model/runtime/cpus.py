"""Processors that this process may use.

Libraries count the processors of the machine: in a container that may use two of 64 they start 64 threads,
which wait for one another. loky also reads the limit, but not those of the groups above.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path

import torch

GROUPS = Path("/proc/self/cgroup")
ROOT = Path("/sys/fs/cgroup")
THREADS = "OMP_NUM_THREADS"

_followed: dict[str, str] = {}
"""Variables that were set here, and not by an operator."""


def follow_cpu_limit(groups: Path = GROUPS, root: Path = ROOT) -> None:
    """Compute with no more threads than processors, unless ``OMP_NUM_THREADS`` sets a number.

    Call it before any computation, and before the import of FAISS, which has an OpenMP of its own.
    """
    if THREADS in os.environ:
        return
    threads = usable_cpus(groups, root)
    if threads < torch.get_num_threads():
        torch.set_num_threads(threads)
        os.environ[THREADS] = _followed[THREADS] = str(threads)


def threads_beside_another() -> int:
    """Threads of a process that computes while this one needs a processor; an operator's number stays."""
    if os.environ.get(THREADS) != _followed.get(THREADS):
        return torch.get_num_threads()
    return max(1, min(torch.get_num_threads(), usable_cpus() - 1))


def usable_cpus(groups: Path = GROUPS, root: Path = ROOT) -> int:
    """Processors by affinity and by the least limit of the control groups, rounded up; at least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cpus, *map(ceil, cpu_limits(groups, root))]))


def cpu_limits(groups: Path = GROUPS, root: Path = ROOT) -> Iterator[float]:
    """The limits, in processors, of this process's control groups and of the groups above them.

    Version 2 has one tree, version 1 has that of its controller ``cpu``, which may be mounted with others. A
    container often sees its own group as the root, under a path that only has a meaning outside of it.
    """
    with suppress(OSError):  # No control groups, no limit.
        for line in groups.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            group = Path(path.lstrip("/"))
            if not controllers or "cpu" in controllers.split(","):
                for top in {root / controllers, root / "cpu"} if controllers else {root}:
                    for part in (group, *group.parents):
                        yield from _limits(top / part)


def _limits(folder: Path) -> Iterator[float]:
    """Limits of one group: ``cpu.max`` holds quota and period in microseconds, in version 1 two files do."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        if quota != "max":
            yield int(quota) / int(period)
    with suppress(OSError, ValueError):
        microseconds = int((folder / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        if microseconds > 0:
            yield microseconds / int((folder / "cpu.cfs_period_us").read_text(encoding="utf-8"))
