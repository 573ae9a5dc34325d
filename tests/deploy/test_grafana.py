"""The dashboard asks what Prometheus understands, of metrics that there are, with labels that they have."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.expressions import metrics_of
from tests.deploy.test_prometheus_rules import RECORDS
from tests.e2e.processes import needed

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "momok.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression stands, and itself as Prometheus will see it."""
    found = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
    found += [(note["name"], note["expr"]) for note in DASHBOARD["annotations"]["list"]]
    for variable in DASHBOARD["templating"]["list"]:
        inner = re.fullmatch(r"label_values\((.*), \w+\)", variable["definition"])
        assert inner is not None
        found.append((variable["name"], inner[1]))
    for place, expression in found:
        yield place, expression.replace("$__rate_interval", "1m").replace("$instance", ".+")


def test_every_expression_parses(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": text} for number, (_, text) in enumerate(expressions())]
    rules[0]["record"] = "panel:first"
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    checked = subprocess.run(
        [needed("promtool"), "check", "rules", "--lint=none", str(file)],
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


@pytest.mark.parametrize(("place", "expression"), list(expressions()))
def test_an_expression_names_only_metrics_and_labels_that_there_are(
    place: str, expression: str, exposed: set[str], families: dict[str, dict[str, set[str]]]
) -> None:
    recorded = {rule["record"] for group in RECORDS for rule in group["rules"]}
    names = metrics_of(expression)
    assert names <= exposed | recorded, place
    for name in names - recorded:
        labels = {"job", "instance", "alertname", *families[name]}
        for selector in re.findall(rf"{name}\{{([^}}]*)\}}", expression):
            assert set(re.findall(r'(\w+)[=!]~?"', selector)) <= labels, place
    routes = families["momok_request_seconds_count"]["route"]
    assert set(re.findall(r'route="([^"]+)"', expression)) <= routes, place
    shares = families["momok_modality_weight_bucket"]["le"]
    assert set(re.findall(r'le="([^"]+)"', expression)) <= shares, place


def test_every_metric_of_ours_is_shown(exposed: set[str]) -> None:
    shown = "".join(text for _, text in expressions())
    shown += "".join(rule["expr"] for group in RECORDS for rule in group["rules"])
    ours = {re.sub(r"_(bucket|sum|count|created|total)$", "", name) for name in exposed if "momok_" in name}
    assert {name for name in ours if name not in shown} == set()


def test_panels_lie_side_by_side_and_use_the_provisioned_source() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + right, place["y"] + down)
            for right in range(place["w"])
            for down in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(right for right, _ in cells) < 24
        taken |= cells
    sources = yaml.safe_load(
        (GRAFANA / "provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    )
    uid = sources["datasources"][0]["uid"]
    assert {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]} == {uid}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_parser_of_these_tests_sees_a_wrong_name() -> None:
    assert metrics_of('sum by (job) (rate(made_up_total{job="x"}[5m])) / 2 > bool other offset 1h') == {
        "made_up_total", "other",
    }  # fmt: skip
