"""An alert of a real Prometheus reaches a real Alertmanager, and from there a person's webhook."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import yaml

from tests.e2e.processes import ROOT, needed, running, wait_for
from tests.e2e.test_prometheus import free_port, hurried, read, watching

CONFIGURATION = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"


@contextmanager
def webhook() -> Iterator[tuple[int, Queue[tuple[str, Any]]]]:
    """A receiver: its port, and what it gets."""
    received: Queue[tuple[str, Any]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.put((self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, received
        server.shutdown()


def test_the_configuration_is_valid() -> None:
    checked = subprocess.run(
        [needed("amtool"), "check-config", CONFIGURATION], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_an_alert_reaches_the_person_on_call_with_its_runbook(tmp_path: Path) -> None:
    prometheus = hurried(tmp_path, f"127.0.0.1:{free_port()}", tmp_path / "key")
    (tmp_path / "key").write_text("a-key-of-a-server-that-is-down", encoding="utf-8")
    port = free_port()
    with webhook() as (receiver, received):
        text = CONFIGURATION.read_text(encoding="utf-8").replace("127.0.0.1:9095", f"127.0.0.1:{receiver}")
        (tmp_path / "alertmanager.yml").write_text(
            text.replace("group_wait: 30s", "group_wait: 1s"), encoding="utf-8"
        )
        configuration = read(prometheus)
        configuration["alerting"] = {
            "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]
        }
        prometheus.write_text(yaml.safe_dump(configuration), encoding="utf-8")
        command = (
            needed("prometheus-alertmanager"),
            f"--config.file={tmp_path / 'alertmanager.yml'}",
            f"--storage.path={tmp_path / 'alerts'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        )
        output = tmp_path / "alertmanager.log"
        with running(*command, output=output) as process:
            wait_for("Listening|listening", output, process)
            with watching(prometheus):
                path, told = received.get(timeout=60)
    assert path == "/on-call"
    (alert,) = told["alerts"]
    assert alert["labels"]["alertname"] == "MomokDown" and alert["labels"]["severity"] == "critical"
    link = alert["annotations"]["runbook_url"]
    assert link == "https://docs.example.org/momok/operations#momokdown"
