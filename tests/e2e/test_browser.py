"""The documentation page in a real browser, which may reach nothing but the server."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.e2e.processes import needed, serving

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--enable-logging=stderr",
)  # fmt: skip


def test_the_documentation_draws_itself(work: Path, tmp_path: Path) -> None:
    chromium = needed("chromium")
    with serving(work / "bundle", tmp_path) as (url, _):
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        ask = ("--virtual-time-budget=15000", "--dump-dom", f"{url}/docs")
        command = [str(chromium), *FLAGS, profile, *ask]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    # Drawn from the API's document, which the page fetches; its own source names no route.
    assert 'data-path="/v1/predict"' in done.stdout
    assert "Unable to render" not in done.stdout
    assert "Authorize" in done.stdout
    # The console, where a browser says what the page's policy has kept it from.
    assert "Content Security Policy" not in done.stderr
