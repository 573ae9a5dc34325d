"""The wheel and the sdist: one name, everything it needs, and it works beside folders of the same names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from momok import __version__
from tests.conftest import REPOSITORY
from tests.service.builders import make_bundle

PARTS = ("model", "training", "service", "commands", "configs")
LEFT_ALONE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "runs")
BUILD = "from setuptools import build_meta; build_meta.build_{}('out')"

Run = Callable[..., subprocess.CompletedProcess[str]]


def build(kind: str, source: Path) -> Path:
    """Build a ``wheel`` or an ``sdist`` in a source tree; what setuptools warns of is an error."""
    (source / "out").mkdir(exist_ok=True)
    subprocess.run(
        [sys.executable, "-W", "error", "-c", BUILD.format(kind)],
        cwd=source, check=True, timeout=120, capture_output=True,
    )  # fmt: skip
    (built,) = (source / "out").glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, as building leaves files beside them."""
    return shutil.copytree(
        REPOSITORY, tmp_path_factory.mktemp("tree") / "momok", symlinks=True, ignore=LEFT_ALONE
    )


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    return build("wheel", tree)


def test_the_wheel_holds_one_name_and_every_file_of_its_parts(wheel: Path) -> None:
    names = {name for name in contents(wheel) if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == {"momok"}
    own = [*(REPOSITORY / "momok").glob("*.py"), *(REPOSITORY / "momok" / "client").glob("*.py")]
    expected = {"py.typed"} | {str(path.relative_to(REPOSITORY / "momok")) for path in own}
    for part in PARTS:
        files = (path for path in (REPOSITORY / part).rglob("*") if path.is_file())
        expected |= {str(path.relative_to(REPOSITORY)) for path in files if "__pycache__" not in path.parts}
    assert names == {f"momok/{name}" for name in expected}


def test_the_sdist_holds_no_tests_and_makes_the_same_wheel(tree: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tree)) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert {path.name for path in unpacked.iterdir() if path.is_dir()} == {"momok", "momok.egg-info"}
    assert contents(build("wheel", unpacked)) == contents(wheel)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel alone, which borrows what it depends on from this one."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, symlinks=True)
    python = str(environment / "bin" / "python")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel],
        check=True, timeout=120, capture_output=True,
    )  # fmt: skip
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    # Files .pth of a folder that a .pth names are not read, so an editable momok stays out of sight.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")
    return environment


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    """Run a program of that environment in a folder with packages ``model`` and ``service`` of its own."""
    for name in PARTS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise AssertionError('not this one')", encoding="utf-8")

    def program(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed / "bin" / name, *map(str, arguments)],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return program


def test_the_installed_package_is_found_and_says_its_version(run: Run, installed: Path) -> None:
    assert run("python", "-c", "import momok; print(momok.__file__)").stdout.startswith(str(installed))
    for version in (run("momok", "--version"), run("python", "-m", "momok", "--version")):
        assert version.stdout == f"momok {__version__}\n", version.stderr


def test_the_installed_command_predicts(run: Run, tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", decision="sum")
    predicted = run("momok", "predict", "bundle", "--head", "e7", "--relation", "r1", "--device", "cpu")
    assert predicted.returncode == 0, predicted.stderr
    assert "Entity 7 — " in predicted.stdout


def test_the_installed_package_has_its_recipes(run: Run) -> None:
    command = ("momok", "train", "nowhere", "--out", "run", "--config")
    assert run(*command, "momok-mkg-y").stderr.startswith("momok: nowhere")
    refused = run(*command, "momok-mkg-z").stderr
    assert refused.startswith("momok: momok-mkg-z: no such recipe; give a TOML file, or one of adamf-")
