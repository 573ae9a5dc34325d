"""The operator's kit: units and manifests that the programs they are for accept."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from momok.cli import parse
from tests.e2e.processes import ROOT, needed

UNIT = ROOT / "deploy" / "systemd" / "momok.service"
KUBERNETES = ROOT / "deploy" / "kubernetes"
MANIFESTS = sorted(path.name for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")


def test_systemd_takes_the_unit_and_finds_it_safe(tmp_path: Path) -> None:
    program = needed("systemd-analyze")
    unit = tmp_path / "momok.service"
    text = UNIT.read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/momok/.venv/bin/momok", shutil.which("true") or "/bin/true"))
    verified = subprocess.run(
        [program, "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert "momok.service" not in verified.stderr, verified.stderr
    rated = subprocess.run(
        [program, "security", "--offline=true", "--threshold=25", "--no-pager", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert rated.returncode == 0, rated.stdout[-500:]


def test_the_unit_starts_a_server_that_there_is() -> None:
    text = UNIT.read_text(encoding="utf-8").replace("\\\n", "")
    command = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    parsed = parse(command.split()[1:])
    assert parsed.linger_s == "5" and parsed.api_keys_file == "${CREDENTIALS_DIRECTORY}/api_keys"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_real_kubernetes_takes_the_manifest(name: str) -> None:
    version = kubernetes_validate.latest_version()
    for document in documents(name):
        kubernetes_validate.validate(document, version, strict=True)


def test_kustomize_finds_every_manifest() -> None:
    (listed,) = documents("kustomization.yaml")
    assert sorted(listed["resources"]) == MANIFESTS


def test_the_pod_is_held_short_and_leaves_in_time() -> None:
    (deployment,) = documents("deployment.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"] is True
    parsed = parse(container["args"])
    assert pod["terminationGracePeriodSeconds"] > float(parsed.linger_s) + 30
    probes = {
        name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")
    }
    assert probes == {"startup": "/startupz", "readiness": "/readyz", "liveness": "/livez"}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    for file in (parsed.api_keys_file, parsed.admin_keys_file, parsed.metrics_keys_file):
        assert str(Path(file).parent) in mounts
