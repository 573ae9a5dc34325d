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
    if _is_given():
        return torch.get_num_threads()
    return max(1, min(torch.get_num_threads(), usable_cpus() - 1))


def _is_given() -> bool:
    """Whether an operator has set the number of threads."""
    given = os.environ.get(THREADS)
    return given is not None and given != _followed.get(THREADS)


def usable_cpus(groups: Path = GROUPS, root: Path = ROOT) -> int:
    """Processors by affinity and by the limit of the control group, rounded up; at least 1."""
    limit = cpu_limit(groups, root)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cpus if limit is None else max(1, min(cpus, ceil(limit)))


def cpu_limit(groups: Path = GROUPS, root: Path = ROOT) -> float | None:
    """The least limit, in processors, of this process's control groups (version 1 and 2); None without one.

    Groups above count too. A file that cannot be read, as on systems without control groups, is no limit.
    """
    limits = [limit for folder in _folders(groups, root) for limit in _limits(folder)]
    return min(limits, default=None)


def _folders(groups: Path, root: Path) -> Iterator[Path]:
    """Folders with the limits of our groups and of the groups above them.

    A container often sees its own group as the root, under a path that only has a meaning outside of it.
    """
    with suppress(OSError):
        for line in groups.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = root / controllers if controllers else root
            if controllers and not top.is_dir():
                top = root / "cpu"
            group = Path(path.lstrip("/"))
            yield from (top / part for part in (group, *group.parents))


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
