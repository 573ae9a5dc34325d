"""Every kind of damaged bundle offered to a running server, which says why it will not have it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from momok.model.bundle.bundle import ENTITIES, FILES, KNOWN, MANIFEST, VOCABULARY, WEIGHTS
from momok.model.bundle.manifest import digest_of
from momok.service.http.app import create_app
from tests.service.builders import ADMIN, admin_settings, make_bundle
from tests.service.deployment.test_deployment import nothing_kept, turn
from tests.service.http.test_api import PREDICT, problem
from tests.service.local_client import LocalClient

GOOD = {"queries": [{"head": "e1", "relation": "r0"}]}

Damage = Callable[[Path], object]


def edit(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(bundle: Path) -> None:
        manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
        change(manifest)
        (bundle / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")

    return damage


def write(name: str, content: bytes) -> Damage:
    return lambda bundle: (bundle / name).write_bytes(content)


def without(name: str) -> Damage:
    return lambda bundle: (bundle / name).unlink()


def cut(name: str) -> Damage:
    return lambda bundle: (bundle / name).write_bytes((bundle / name).read_bytes()[:-9])


def flipped(name: str) -> Damage:
    def damage(bundle: Path) -> None:
        content = bytearray((bundle / name).read_bytes())
        content[len(content) // 2] ^= 4
        (bundle / name).write_bytes(content)

    return damage


def signed(damage: Damage, name: str) -> Damage:
    """Damage that the manifest agrees with."""

    def both(bundle: Path) -> None:
        damage(bundle)
        digest = digest_of(bundle / name).model_dump()
        edit(lambda manifest: manifest["files"].update({name: digest}))(bundle)

    return both


def from_another(name: str) -> Damage:
    def damage(bundle: Path) -> None:
        other = make_bundle(bundle.parent / "other", decision="sum", num_entities=30).path
        shutil.copy(other / name, bundle / name)

    return signed(damage, name)


def emptied(bundle: Path) -> None:
    shutil.rmtree(bundle)
    bundle.mkdir()


def a_file(bundle: Path) -> None:
    shutil.rmtree(bundle)
    bundle.write_bytes(b"a bundle")


def golden(manifest: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = manifest["golden"][0]
    return first


DAMAGES: dict[str, tuple[Damage, str]] = {
    "gone": (shutil.rmtree, "no such directory"),
    "empty": (emptied, "no manifest.json"),
    "a file": (a_file, "manifest"),
    "no manifest": (without(MANIFEST), "no manifest.json"),
    "empty manifest": (write(MANIFEST, b""), "not a readable manifest"),
    "manifest cut": (cut(MANIFEST), "not a readable manifest"),
    "manifest of bytes": (write(MANIFEST, b"\xff\x00"), "not a readable manifest"),
    "manifest a list": (write(MANIFEST, b"[]"), "not a readable manifest"),
    "another format": (edit(lambda manifest: manifest.update(format_version=99)), "format_version 99"),
    "a field missing": (edit(lambda manifest: manifest.pop("decision")), "decision"),
    "a field too many": (edit(lambda manifest: manifest.update(colour="red")), "colour"),
    "a file not listed": (edit(lambda manifest: manifest["files"].pop(KNOWN)), "expected"),
    **{f"{name} missing": (without(name), f"{name}: missing") for name in FILES},
    **{f"{name} cut": (cut(name), f"{name}: ") for name in FILES},
    **{f"{name} flipped": (flipped(name), "sha256") for name in FILES},
    "picture missing": (without("pictures/0.png"), "missing"),
    "weights of another": (from_another(WEIGHTS), f"{WEIGHTS}: does not fit"),
    "table of another": (from_another(ENTITIES), f"{ENTITIES}: does not fit"),
    "names of another": (from_another(VOCABULARY), f"{VOCABULARY}: counts"),
    "no tensors": (signed(write(WEIGHTS, b"x" * 100), WEIGHTS), f"{WEIGHTS}: does not fit"),
    "no database": (signed(write(VOCABULARY, b"x" * 100), VOCABULARY), "not a readable vocabulary"),
    "an unknown model": (edit(lambda manifest: manifest["model"].update(model="oracle")), "'oracle'"),
    "another decision": (edit(lambda manifest: manifest.update(decision="mean_sigmoid")), "decision"),
    "other counts": (edit(lambda manifest: manifest["counts"].update(entities=61)), "counts"),
    "a golden id beyond": (edit(lambda manifest: golden(manifest).update(entity=60)), "golden"),
    "a golden answer wrong": (
        edit(lambda manifest: golden(manifest)["scores"].__setitem__(0, 1e6)),
        "a golden query scores",
    ),
}


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    """A running app, and the link by which bundles are offered to it."""
    folder = tmp_path_factory.mktemp("serving")
    link = folder / "current"
    link.symlink_to(make_bundle(folder / "good", decision="sum").path)
    with LocalClient(
        create_app(admin_settings(link)),
        raise_server_exceptions=False,
    ) as client:
        yield client, link


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_bundle_is_refused_with_its_reason_and_nothing_of_it_kept(
    serving: tuple[TestClient, Path], tmp_path: Path, damage: Damage, reason: str
) -> None:
    client, link = serving
    before = client.post(PREDICT, json=GOOD).content
    bad = make_bundle(tmp_path / "bad", decision="sum", seed=1).path
    damage(bad)
    turn(link, bad)
    with nothing_kept():
        document = problem(client.post("/admin/reload", headers=ADMIN), 422)
    assert document["type"] == "urn:momok:problem:bundle-refused"
    assert reason in document["detail"]
    assert client.post(PREDICT, json=GOOD).content == before
    assert client.get("/readyz").status_code == 200


def test_there_are_twenty_kinds_at_least() -> None:
    assert len(DAMAGES) >= 20
