"""A real Prometheus scrapes a real server."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import yaml

from tests.e2e.processes import ROOT, get, needed, running, serving, wait_for

CONFIGURATION = """
scrape_configs:
  - job_name: momok
    scrape_interval: 1s
    static_configs: [{{targets: ["{target}"]}}]
"""


def test_prometheus_reads_what_we_export(work: Path, tmp_path: Path) -> None:
    promtool = needed("promtool")
    with serving(work / "bundle", tmp_path) as (url, _):
        exposition = get(f"{url}/metrics")
        linted = subprocess.run(
            [promtool, "check", "metrics"], input=exposition, text=True, capture_output=True, check=False
        )
        assert "error while linting" not in linted.stderr, linted.stderr
        configuration = tmp_path / "prometheus.yml"
        configuration.write_text(CONFIGURATION.format(target=url.removeprefix("http://")), encoding="utf-8")
        with watching(configuration) as address:
            assert eventually(address, "momok_ready") == 1
            assert eventually(address, 'momok_requests_total{route="/v1/predict",status="200"}') == 0


def test_an_alert_fires_when_the_service_dies_and_resolves_when_it_is_back(
    work: Path, tmp_path: Path
) -> None:
    """The files of ``deploy/``, only quicker, and a server with the keys that ``deploy/secrets.sh`` makes."""
    secrets = tmp_path / "secrets"
    subprocess.run(["/bin/sh", ROOT / "deploy" / "secrets.sh", secrets], check=True, capture_output=True)
    port = free_port()
    keys = ("--api-keys-file", secrets / "api_keys.txt", "--metrics-keys-file", secrets / "metrics_keys.txt")
    flags = ("--port", port, *keys)
    configuration = hurried(tmp_path, f"127.0.0.1:{port}", secrets / "prometheus_key.txt")
    firing = 'count(ALERTS{alertname="MomokDown",alertstate="firing"}) or vector(0)'
    with watching(configuration) as address:
        with serving(work / "bundle", tmp_path, *flags) as (_, process):
            until(address, 'up{job="momok"}', 1)
            until(address, firing, 0)
            until(address, "instance:momok_queue:fill", 0)
            rules = json.loads(get(f"http://{address}/api/v1/rules"))["data"]["groups"]
            assert {rule["health"] for group in rules for rule in group["rules"]} <= {"ok", "unknown"}
            assert sum(len(group["rules"]) for group in rules) > 20
            process.kill()
            until(address, firing, 1)
        with serving(work / "bundle", tmp_path, *flags):
            until(address, 'up{job="momok"}', 1)
            until(address, firing, 0)


def hurried(tmp_path: Path, target: str, key: Path) -> Path:
    """The real configuration and rules, with seconds where they have minutes, for another address and key."""
    folder = shutil.copytree(ROOT / "deploy" / "prometheus", tmp_path / "prometheus")
    configuration: dict[str, Any] = read(folder / "prometheus.yml")
    configuration["global"] |= {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    jobs = [job for job in configuration["scrape_configs"] if job["job_name"] == "momok"]
    jobs[0]["static_configs"] = [{"targets": [target]}]
    jobs[0]["authorization"]["credentials_file"] = str(key)
    configuration["scrape_configs"] = jobs
    alerts = read(folder / "alerts.yml")
    for group in alerts["groups"]:
        for rule in group["rules"]:
            rule["for"] = "1s"
    (folder / "alerts.yml").write_text(yaml.safe_dump(alerts), encoding="utf-8")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    return folder / "prometheus.yml"


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


@contextmanager
def watching(configuration: Path) -> Iterator[str]:
    """A Prometheus that keeps its data beside its configuration: its address."""
    address = f"127.0.0.1:{free_port()}"
    command = (
        needed("prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={configuration.parent / 'tsdb'}",
        f"--web.listen-address={address}",
    )
    output = configuration.parent / "prometheus.log"
    with running(*command, output=output) as process:
        wait_for("Server is ready to receive web requests", output, process)
        yield address


def until(address: str, expression: str, expected: float, timeout_s: float = 30) -> None:
    """Wait until an expression has a value."""
    deadline = monotonic() + timeout_s
    while (found := eventually(address, expression, timeout_s)) != expected:
        assert monotonic() < deadline, f"{expression} is {found}"
        sleep(0.3)


def eventually(address: str, expression: str, timeout_s: float = 30) -> float:
    """The value of an expression, once Prometheus has one."""
    url = f"http://{address}/api/v1/query?query={urllib.parse.quote(expression)}"
    deadline = monotonic() + timeout_s
    while monotonic() < deadline:
        if result := json.loads(get(url))["data"]["result"]:
            return float(result[0]["value"][1])
        sleep(0.5)
    raise AssertionError(f"Prometheus has no {expression}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
