"""What asks for no work loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from momok import __version__

HEAVY = ("numpy", "pydantic", "torch", "momok.service.settings", "momok.training")


def loaded_by(program: str) -> tuple[str, set[str]]:
    """What a program prints, and those of ``HEAVY`` that it loads."""
    ending = f"\nfinally:\n    print('loaded', *sys.modules.keys() & {set(HEAVY)!r}, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\ntry:\n    {program}{ending}"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout, set(done.stderr.split()[1:])


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import momok") == ("", set())


@pytest.mark.parametrize(
    ("word", "expected"), [("--help", "usage: momok"), ("--version", f"momok {__version__}\n")]
)
def test_help_and_version_load_nothing_heavy(word: str, expected: str) -> None:
    out, heavy = loaded_by(f"from momok.cli import main; main([{word!r}])")
    assert out.startswith(expected)
    assert not heavy


def test_the_check_would_see_what_is_loaded() -> None:
    _, heavy = loaded_by("from momok.cli import main; main(['serve', '--help'])")
    assert "pydantic" in heavy
