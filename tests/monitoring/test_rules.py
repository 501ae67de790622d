"""The alert rules and the dashboard of the chart: they name what we export, and they fire when they should.

Prometheus's own `promtool` tries them; it is in Debian's package `prometheus`. With PROMTOOL_REQUIRED it is an error that it is missing.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from webhook.formats.endings import ENDING_KINDS
from webhook.observe.metrics import CONFIGURATIONS, Metrics
from webhook.verdict import Unknown

ROOT = Path(__file__).parents[2]
FILES = ROOT / "charts" / "trusted-images" / "files"
RULES: dict[str, Any] = yaml.safe_load((FILES / "rules.yaml").read_text("utf-8"))
DASHBOARD: dict[str, Any] = json.loads((FILES / "dashboard.json").read_text("utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
PROMTOOL = shutil.which("promtool")
if os.environ.get("PROMTOOL_REQUIRED") and PROMTOOL is None:
    raise RuntimeError("PROMTOOL_REQUIRED is set, and promtool is not on the PATH (Debian: apt-get install prometheus)")

needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="NO PROMTOOL: the alert rules are not tried (Debian: apt-get install prometheus)"
)

WORDS = frozenset({
    "absent", "and", "by", "count", "histogram_quantile", "increase", "max", "min", "or", "rate", "sum", "time", "unless",
})  # fmt: skip
"""What is no metric in an expression."""


def exported() -> dict[str, list[dict[str, str]]]:
    """Each series that there can be, with the labels of those that there are."""
    metrics = Metrics()
    metrics.verified("cosign", Unknown(("down",)))
    metrics.fetched("example", 200)
    for states, gauge in (
        (("in_force", "unresolved", "broken"), metrics.policies),
        (("in_force", "not_approved", "expired", "used_up", "broken"), metrics.exceptions),
        ((*ENDING_KINDS, "exception", "signature", "crl"), metrics.expiry),
        (ENDING_KINDS, metrics.ended),
        (tuple(CONFIGURATIONS.values()), metrics.in_place),
    ):
        for state in states:
            gauge.labels(state)
    found: dict[str, list[dict[str, str]]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, []).append(dict(sample.labels))
    return found


SERIES = exported()
FROM_PROMETHEUS = frozenset({"pod", "job"})
"""Labels that whoever reads the metrics adds."""


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            yield panel


EXPRESSIONS = [pytest.param(rule["expr"], id=rule["alert"]) for rule in ALERTS] + [
    pytest.param(target["expr"], id=panel["title"]) for panel in panels() for target in panel["targets"]
]


def complaints(expression: str) -> list[str]:
    """What it asks for and we do not have: metrics, labels, values of labels from a closed list."""
    bare = re.sub(r"\[[^]]*\]", "", expression)
    wrong = []
    for name, matchers in re.findall(r"\b([a-z_][a-z0-9_]*)\b\s*(\{[^}]*\})?(?![^{]*\})", bare):
        if name in WORDS or re.search(rf"\bby \([^)]*\b{name}\b[^)]*\)", bare):
            continue
        if name not in SERIES:
            wrong.append(f"no metric {name}")
            continue
        for label, operator, value in re.findall(r'([a-z_]+)(=~|!=|!~|=)"([^"]*)"', matchers):
            if label in FROM_PROMETHEUS:
                continue
            values = [labels[label] for labels in SERIES[name] if label in labels]
            if not values:
                wrong.append(f"{name} has no label {label}")
            elif operator in {"=", "!="} and value not in values:
                wrong.append(f'{name} is never {label}="{value}"')
    for labels in re.findall(r"\bby \(([^)]*)\)", bare):
        known = {label for series in SERIES.values() for one in series for label in one} | FROM_PROMETHEUS
        wrong += [f"no label {label}" for label in re.split(r",\s*", labels) if label not in known]
    return wrong


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_asks_for_what_is_exported(expression: str) -> None:
    assert complaints(expression) == []
    assert "trusted_images_" in expression or "process_" in expression


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("rate(trusted_images_gone_total[5m]) > 0", "no metric trusted_images_gone_total"),
        ('trusted_images_policies{mood="x"}', "trusted_images_policies has no label mood"),
        ('trusted_images_policies{state="fine"} > 0', 'trusted_images_policies is never state="fine"'),
        ("sum by (planet) (trusted_images_leader)", "no label planet"),
    ],
)
def test_an_expression_that_asks_for_something_else_is_noticed(expression: str, complaint: str) -> None:
    assert complaints(expression) == [complaint]


def test_every_alert_says_how_bad_it_is_and_what_it_means() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]


def test_every_alert_is_tried_both_ways_and_stands_in_the_page() -> None:
    page = (ROOT / "docs" / "observe.md").read_text("utf-8")
    tests = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text("utf-8"))["tests"]
    tried = [one for test in tests for one in test["alert_rule_test"]]
    for rule in ALERTS:
        told = {bool(one["exp_alerts"]) for one in tried if one["alertname"] == rule["alert"]}
        assert told == {True, False}, rule["alert"]
        assert f"`{rule['alert']}`" in page


def test_pages_that_alerts_send_people_to_have_the_heading() -> None:
    texts = [rule["annotations"]["description"] for rule in ALERTS]
    for heading, page in (found for text in texts for found in re.findall(r'See "([^"]+)" in (docs/\S+\.md)', text)):
        assert f"\n## {heading}\n" in (ROOT / page).read_text("utf-8")


@needs_promtool
def test_the_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    shutil.copy(FILES / "rules.yaml", tmp_path)
    shutil.copy(Path(__file__).parent / "alerts.yaml", tmp_path)
    promtool("test", "rules", str(tmp_path / "alerts.yaml"))


@needs_promtool
def test_the_dashboards_expressions_are_prometheuss(tmp_path: Path) -> None:
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    rules = [
        {"record": f"panel:{i}", "expr": expression.replace("$__rate_interval", "5m").replace("$job", ".*")}
        for i, expression in enumerate(expressions)
    ]
    file = tmp_path / "dashboard.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(file))


def promtool(*words: str) -> None:
    assert PROMTOOL is not None
    ran = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - it is on the PATH
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_dashboard_is_one_that_grafana_lays_out() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {one["name"] for one in DASHBOARD["templating"]["list"]}
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(panel))) - {"__rate_interval"}
        assert used <= variables, panel["title"]
