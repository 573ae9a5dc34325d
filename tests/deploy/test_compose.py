"""The compose files: valid, careful, and in agreement with the other files that they use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from momok.cli import parse
from momok.service.http.keys import Rings, load_rings
from momok.service.settings import Settings
from tests.e2e.processes import ROOT

BASE = ROOT / "docker-compose.yml"
GPU = ROOT / "deploy" / "compose.gpu.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(BASE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_the_files_are_as_the_compose_specification_has_them() -> None:
    program = str(Path(sys.executable).parent / "check-jsonschema")
    command: list[str | Path] = [program, "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, BASE, GPU], text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_held_short(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert "privileged" not in service
    assert ("networks" in service) != (service.get("network_mode") == "none")
    for mount in service.get("volumes", ()):
        source, target, *mode = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", mount).split(":")
        if source.startswith("./"):
            assert mode == ["ro"], f"{name}: files of the host are read, never written"
            assert (ROOT / source).exists() or source == "./build"
        else:
            assert source in COMPOSE["volumes"], target


def test_only_the_service_is_for_others_and_only_where_asked() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {
        "momok": ["${MOMOK_ADDRESS:-127.0.0.1}:8000:8000"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_what_is_scraped_and_shown_is_reached_by_these_names() -> None:
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in scraped["scrape_configs"]}
    assert jobs["momok"]["static_configs"] == [{"targets": ["momok:8000"]}]
    assert jobs["momok"]["authorization"]["credentials_file"] == "/run/secrets/prometheus_key"
    assert "prometheus_key" in SERVICES["prometheus"]["secrets"]
    assert set(SERVICES["momok"]["networks"]) & set(SERVICES["prometheus"]["networks"])
    source = (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    assert "http://prometheus:9090" in source
    assert set(SERVICES["grafana"]["networks"]) & set(SERVICES["prometheus"]["networks"])


def test_the_command_of_the_service_is_one() -> None:
    parsed = parse(SERVICES["momok"]["command"])
    assert parsed.bundle == Path("/bundles/current")
    assert parsed.watch is True
    for file in (parsed.api_keys_file, parsed.admin_keys_file, parsed.metrics_keys_file):
        assert Path(file).parent == Path("/run/secrets")
        assert Path(file).name in SERVICES["momok"]["secrets"]


def test_services_see_the_same_bundles_and_only_the_server_cannot_write_them() -> None:
    seen = {
        name: mount
        for name, service in SERVICES.items()
        for mount in service.get("volumes", ())
        if ":/bundles" in mount
    }
    folder = "${MOMOK_BUNDLES:-bundles}:/bundles"
    assert seen == {"momok": f"{folder}:ro", "bundles": folder, "train": folder}


def test_a_recipe_is_where_the_trainer_looks_for_it() -> None:
    default = re.fullmatch(
        r"/configs/\$\{MOMOK_RECIPE:-(.*)\}", SERVICES["train"]["environment"]["MOMOK_RECIPE"]
    )
    assert default is not None
    assert (ROOT / "configs" / default[1]).is_file()


def test_images_and_targets_are_those_of_the_dockerfile() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^FROM \S+ AS (\w+)", dockerfile, re.MULTILINE))
    overrides: dict[str, Any] = yaml.safe_load(GPU.read_text(encoding="utf-8"))["services"]
    assert {SERVICES["momok"]["build"]["target"], overrides["momok"]["build"]["target"]} <= targets
    images = {name: service["image"] for name, service in SERVICES.items() if "momok:" in service["image"]}
    assert images == {"momok": "momok:cpu", "train": "momok:cpu", "bundles": "momok:demo"}
    assert {name: service["image"] for name, service in overrides.items()} == {
        "momok": "momok:gpu", "train": "momok:gpu",
    }  # fmt: skip
    arguments = set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))
    assert set(SERVICES["momok"]["build"]["args"]) <= arguments


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """An empty volume, and beside it what the image holds."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}", encoding="utf-8")
    (tmp_path / "bundles").mkdir()
    return tmp_path / "bundles"


def put_first_bundle(volume: Path) -> None:
    """The very command of the service ``bundles``, in other folders."""
    [script] = SERVICES["bundles"]["command"]
    script = script.replace("/bundles", str(volume)).replace("/bundle ", f"{volume.parent / 'bundle'} ")
    script = script.replace("$$", "$")  # As compose reads it.
    subprocess.run(["/bin/sh", "-euc", script], check=True, timeout=30)


def test_the_first_bundle_is_put_there_once(volume: Path) -> None:
    for _ in range(2):
        put_first_bundle(volume)
    assert (volume / "current").readlink() == Path("demo")
    assert [path.name for path in (volume / "current").iterdir()] == ["manifest.json"]
    assert {path.name for path in volume.iterdir()} == {"current", "demo"}


@pytest.mark.parametrize("half", [(".demo",), ("demo",), (".demo", "demo")])
def test_an_interrupted_first_copy_is_made_again(volume: Path, half: tuple[str, ...]) -> None:
    for name in half:
        (volume / name / "index").mkdir(parents=True)
    put_first_bundle(volume)
    assert (volume / "current").readlink() == Path("demo")
    assert [path.name for path in (volume / "current").iterdir()] == ["manifest.json"]
    assert {path.name for path in volume.iterdir()} == {"current", "demo"}


@pytest.mark.parametrize("target", ["nowhere", "/srv/momok/bundle-7"])
def test_a_link_that_leads_nowhere_is_told_and_not_replaced(volume: Path, target: str) -> None:
    (volume / "current").symlink_to(target)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        put_first_bundle(volume)
    assert refused.value.returncode == 2
    assert (volume / "current").readlink() == Path(target)
    assert {path.name for path in volume.iterdir()} == {"current"}


def test_a_bundle_that_is_served_is_left_alone(volume: Path) -> None:
    (volume / "ours").mkdir()
    (volume / "current").symlink_to("ours")
    put_first_bundle(volume)
    assert {path.name for path in volume.iterdir()} == {"current", "ours"}


def key_of_prometheus(folder: Path) -> str:
    return (folder / "prometheus_key.txt").read_text(encoding="utf-8").strip()


def rings_in(folder: Path) -> Rings:
    api, admin, metrics = (folder / f"{name}_keys.txt" for name in ("api", "admin", "metrics"))
    return load_rings(
        Settings(bundle=folder, api_keys_file=api, admin_keys_file=admin, metrics_keys_file=metrics)
    )


def test_secrets_are_made_once_and_the_server_takes_them(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    first = make_secrets(folder)
    files = {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert {file.name for file in folder.iterdir()} == files
    assert folder.stat().st_mode & 0o777 == 0o700
    api, admin, metrics = rings_in(folder)
    assert api.hashes.keys() == {"operator"}
    assert (
        metrics.name_of((folder / "prometheus_key.txt").read_text(encoding="utf-8").strip()) == "prometheus"
    )
    told = re.findall(r"the key of (\w+), shown only now: (\S+)", first)
    assert {name: (api.name_of(key) or admin.name_of(key)) for name, key in told} == {
        "operator": "operator", "admin": "admin",
    }  # fmt: skip
    before = {file: file.read_text(encoding="utf-8") for file in folder.iterdir()}
    assert make_secrets(folder) == ""
    assert {file: file.read_text(encoding="utf-8") for file in folder.iterdir()} == before


def test_a_lost_key_of_prometheus_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make_secrets(folder)
    (folder / "prometheus_key.txt").unlink()
    make_secrets(folder)
    metrics = rings_in(folder).metrics
    assert metrics.hashes.keys() == {"prometheus"}
    assert (
        metrics.name_of((folder / "prometheus_key.txt").read_text(encoding="utf-8").strip()) == "prometheus"
    )


def make_secrets(folder: Path) -> str:
    done = subprocess.run(
        ["/bin/sh", ROOT / "deploy" / "secrets.sh", folder],
        text=True, capture_output=True, check=True, timeout=30, env=os.environ,
    )  # fmt: skip
    return done.stdout
