"""The rules of Prometheus: they parse, they are tested in both directions, and each alert has a runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.expressions import metrics_of
from tests.e2e.processes import needed

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
GROUPS = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
RECORDS = yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8"))["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}


def promtool(*arguments: object, within: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    command = [str(needed("promtool")), *map(str, arguments)]
    return subprocess.run(command, cwd=within, text=True, capture_output=True, check=False, timeout=60)


def test_the_configuration_and_its_rules_are_valid(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "prometheus")
    (folder / "key").write_text("one-that-is-there", encoding="utf-8")
    configuration = (folder / "prometheus.yml").read_text(encoding="utf-8")
    (folder / "prometheus.yml").write_text(
        configuration.replace("/run/secrets/prometheus_key", "key"), encoding="utf-8"
    )
    checked = promtool("check", "config", "prometheus.yml", within=folder)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout, "alerts.yml is loaded"


def test_links_to_runbooks_are_absolute() -> None:
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    assert re.match(r"https://\S+/operations$", configuration["global"]["external_labels"]["runbooks"])


def test_every_alert_fires_and_does_not_fire_as_expected() -> None:
    tested = promtool("test", "rules", "rules_test.yml")
    assert tested.returncode == 0, tested.stderr + tested.stdout


@pytest.mark.parametrize("expression", ["vector(1)", "vector(1) > 1"], ids=["always", "never"])
def test_alerts_that_always_or_never_fire_are_found(expression: str, tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "prometheus")
    rules = [
        {key: value for key, value in rule.items() if key != "for"} | {"expr": expression}
        for rule in ALERTS.values()
    ]
    document = {"groups": [{"name": "broken", "rules": rules}]}
    (folder / "alerts.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    tested = promtool("test", "rules", "rules_test.yml", within=folder)
    assert tested.returncode != 0
    assert set(re.findall(r"Momok[A-Za-z]+", tested.stderr + tested.stdout)) >= set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_where_its_runbook_stands(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert (page, anchor) == ("{{ $externalLabels.runbooks }}", name.lower())
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_rules_name_only_metrics_that_there_are(exposed: set[str]) -> None:
    recorded = {rule["record"] for group in RECORDS for rule in group["rules"]}
    for group in [*GROUPS, *RECORDS]:
        for rule in group["rules"]:
            assert metrics_of(rule["expr"]) <= exposed | recorded, rule


def test_every_recorded_series_is_read_by_somebody() -> None:
    readers = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
    readers += "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "deploy" / "grafana").rglob("*.json")
    )
    for group in RECORDS:
        for rule in group["rules"]:
            assert rule["record"] in readers, rule["record"]
