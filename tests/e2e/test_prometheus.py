"""A real Prometheus scrapes a real server."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.parse
from pathlib import Path
from time import monotonic, sleep

from tests.e2e.processes import get, needed, running, serving, wait_for

CONFIGURATION = """
scrape_configs:
  - job_name: momok
    scrape_interval: 1s
    static_configs: [{{targets: ["{target}"]}}]
"""


def test_prometheus_reads_what_we_export(work: Path, tmp_path: Path) -> None:
    prometheus, promtool = needed("prometheus"), needed("promtool")
    with serving(work / "bundle", tmp_path) as (url, _):
        exposition = get(f"{url}/metrics")
        linted = subprocess.run(
            [promtool, "check", "metrics"], input=exposition, text=True, capture_output=True, check=False
        )
        assert "error while linting" not in linted.stderr, linted.stderr
        configuration = tmp_path / "prometheus.yml"
        configuration.write_text(CONFIGURATION.format(target=url.removeprefix("http://")), encoding="utf-8")
        address = f"127.0.0.1:{free_port()}"
        command = (
            prometheus,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address={address}",
        )
        output = tmp_path / "prometheus.log"
        with running(*command, output=output) as process:
            wait_for("Server is ready to receive web requests", output, process)
            assert eventually(address, "momok_ready") == 1
            assert eventually(address, 'momok_requests_total{route="/v1/predict",status="200"}') == 0


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
