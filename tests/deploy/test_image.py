"""What goes into the image; ``deploy/verify.sh`` builds and runs it."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "deploy" / "locks"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Package -> version, number of hashes."""
    text = (LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    return {
        canonical(entry[1]): (entry[2], entry[0].count("--hash=sha256:"))
        for entry in re.finditer(r"^([\w.-]+)==(\S+)(?: \\\n +--hash=\S+)*", text, re.MULTILINE)
    }


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


@pytest.mark.parametrize(("name", "extras"), [("cpu", ["cpu"]), ("gpu", ["gpu"]), ("demo", ["cpu", "demo"])])
def test_a_lock_has_what_the_project_needs_with_hashes(name: str, extras: list[str]) -> None:
    lock = locked(name)
    needed = [*PROJECT["dependencies"], *(entry for extra in extras for entry in EXTRAS[extra])]
    assert {canonical(re.split(r"[<>=;\[ ]", entry)[0]) for entry in needed} <= lock.keys()
    assert all(hashes for _, hashes in lock.values())


@pytest.mark.parametrize("name", ["cpu", "gpu", "demo"])
def test_locked_versions_are_those_that_ci_tests(name: str) -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    tested = {
        canonical(found[1]): found[2] for found in re.finditer(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)
    }
    for package, (version, _) in locked(name).items():
        if package in tested:
            assert version.removesuffix("+cpu") == tested[package], package


def test_the_cpu_image_has_no_cuda_and_no_training_extras() -> None:
    lock = locked("cpu")
    assert lock["torch"][0].endswith("+cpu")
    assert not [package for package in lock if re.match(r"nvidia|cuda|triton|faiss-gpu", package)]
    extra = {
        canonical(re.split(r"[<>=]", entry)[0]) for name in ("features", "demo") for entry in EXTRAS[name]
    }
    assert not extra & lock.keys()
    assert {"nvidia-cublas", "faiss-gpu"} <= locked("gpu").keys()


def test_the_image_is_what_a_careful_container_needs() -> None:
    runtime = DOCKERFILE.split(" AS runtime")[1].split("\nFROM ")[0]
    assert "USER 10001" in runtime
    assert "STOPSIGNAL SIGTERM" in runtime
    assert "HEALTHCHECK" in runtime and "--allow-anonymous" not in runtime
    assert "pip" not in runtime
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)[-1] == "cpu"


def test_only_the_demo_holds_a_bundle_and_is_open_to_everybody() -> None:
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL))
    assert {name for name, text in stages.items() if "/bundle /bundle" in text} == {"demo"}
    assert {name for name, text in stages.items() if "--allow-anonymous" in text} == {"demo"}


def health() -> Any:
    spec = importlib.util.spec_from_file_location("health", ROOT / "deploy" / "health.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("words", "environment", "url"),
    [
        (["--host", "0.0.0.0", "--allow-anonymous"], {}, "http://127.0.0.1:8000/livez"),
        ([], {"MOMOK_PORT": "9000"}, "http://127.0.0.1:9000/livez"),
        (["--port", "1", "--tls-cert", "a", "--tls-key", "b"], {}, "https://127.0.0.1:1/livez"),
        (["--host", "::", "--api-keys-file", "k"], {}, "http://[::1]:8000/livez"),
    ],
)
def test_the_health_check_asks_where_the_server_listens(
    words: list[str], environment: dict[str, str], url: str
) -> None:
    command = ["docker-init", "--", "python", "/opt/program/bin/momok", "serve", "/bundle", *words]
    assert health().url_of(command, environment) == url


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    kept = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists(), source
            assert any(source == keep or source.startswith(f"{keep}/") for keep in kept), source
