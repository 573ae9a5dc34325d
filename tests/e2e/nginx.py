"""A real nginx in front of real servers, with the configuration that operators get."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.processes import ROOT, needed, running, wait_for

CONFIGURATION = ROOT / "deploy" / "nginx" / "momok.conf"


def configured(folder: Path, port: int, upstreams: Sequence[int], cert: Path, key: Path) -> Path:
    """The file of ``deploy/`` with other ports, another certificate and no rate, in a whole configuration."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    servers = "\n".join(f"server 127.0.0.1:{upstream};" for upstream in upstreams)
    for given, ours in {
        "server 127.0.0.1:8000;": servers,
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "rate=50r/s": "rate=10000r/s",
        "/etc/ssl/momok/cert.pem": str(cert),
        "/etc/ssl/momok/key.pem": str(key),
    }.items():
        assert text.count(given) == 1, given
        text = text.replace(given, ours)
    path = folder / "nginx.conf"
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path.write_text(
        f"pid {folder}/nginx.pid;\nerror_log stderr notice;\ndaemon off;\nworker_processes 1;\n"
        f"events {{ worker_connections 512; }}\nhttp {{\naccess_log off;\n{temporary}{text}\n}}\n",
        encoding="utf-8",
    )
    return path


@contextmanager
def nginx(configuration: Path) -> Iterator[None]:
    program = needed("nginx")
    checked = subprocess.run(
        [program, "-t", "-c", configuration], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    output = configuration.parent / "nginx.log"
    with running(program, "-c", configuration, output=output) as process:
        wait_for("start worker process", output, process)
        yield
        process.terminate()
        process.wait(20)
