"""The wheel holds one name, and works beside folders that have the names of its parts."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from momok.training.export.export import export_run
from tests.conftest import REPOSITORY
from tests.training.builders import CPU, make_recipe, start

FOLDERS = ("model", "service", "training", "commands", "configs")


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: setuptools leaves its build beside the sources, and takes up what lies there.
    ignored = shutil.ignore_patterns(".*", "build", "runs", "*.egg-info", "__pycache__")
    shutil.copytree(REPOSITORY, folder / "sources", symlinks=True, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, folder / "sources", cwd=folder)
    (file,) = folder.glob("momok-*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, and with our dependencies but not our momok."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    programs = folder / "bin"
    (packages,) = folder.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(programs / "python")]
    run(*pip, "install", "--quiet", "--no-deps", wheel, cwd=folder)
    # After the environment's own packages; their .pth files, as of editable installs, are not read.
    borrowed = [path for path in site.getsitepackages() if Path(path).is_dir()]
    (packages / "borrowed.pth").write_text("".join(f"{path}\n" for path in borrowed))
    return programs


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A folder whose own packages have the names of our parts, and fail when they are imported."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    return tmp_path


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_the_wheel_holds_one_name_and_all_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"momok"}
    files = {name for name in names if name.startswith("momok/")}
    for path in REPOSITORY.glob("momok/*/**/*"):
        if path.suffix in {".py", ".toml", ".tsv", ".png"}:
            assert path.relative_to(REPOSITORY).as_posix() in files
    assert {
        "momok/py.typed",
        "momok/configs/momok-mkg-y.toml",
        "momok/configs/grids/momok-ablations.toml",
    } < files
    assert not [name for name in files if "test" in name or name.endswith(".pyc")]


def test_it_runs_beside_folders_of_the_names_of_its_parts(
    installed: Path, crowded: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    python = installed / "python"
    where = run(python, "-c", "import momok; print(momok.__file__)", cwd=crowded, env=clean())
    assert Path(where.strip()).is_relative_to(installed.parent)
    for command in ((installed / "momok",), (python, "-m", "momok")):
        assert run(*command, "--version", cwd=crowded, env=clean()).startswith("momok 0.")
    folder = tmp_path_factory.mktemp("made")
    trainer = start(folder, make_recipe(max_epochs=1))
    trainer.train()
    export_run(trainer.run, folder / "bundle", dataset=trainer.run.dataset(), device=CPU)
    asked = ("predict", folder / "bundle", "--head", "e0", "--relation", "club", "-k", "3")
    assert len(run(python, "-m", "momok", *asked, cwd=crowded, env=clean()).splitlines()) > 3


def test_a_recipe_of_the_package_is_found_by_name(installed: Path, crowded: Path) -> None:
    command = (installed / "momok", "train", "nowhere", "--out", "run", "--config")
    done = [
        subprocess.run(
            [*command, name], cwd=crowded, env=clean(), capture_output=True, text=True, timeout=120
        )
        for name in ("momok-mkg-y", "momok-mkg-z")
    ]
    assert "nowhere" in done[0].stderr
    assert "momok-mkg-z: no such recipe; give a TOML file, or one of adamf-" in done[1].stderr


@pytest.mark.parametrize("command", ["import momok", "momok --help", "momok --version"])
def test_nothing_heavy_is_loaded_without_need(command: str) -> None:
    script = "import sys; import momok\n"
    if command != "import momok":
        words = command.split()[1:]
        script += f"from momok.cli import main\ntry: main({words})\nexcept SystemExit: pass\n"
    script += "print([name for name in ('torch', 'numpy', 'pydantic', 'fastapi') if name in sys.modules])"
    assert run(sys.executable, "-c", script, cwd=REPOSITORY).splitlines()[-1] == "[]"
