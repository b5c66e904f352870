"""What dashboard, alerts and README name is what a gateway exports."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from app.core.metrics import Metrics
from tests.schema.test_readme import rows_of

ROOT = Path(__file__).parents[2]
KINDS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def families() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return type and labels of each metric."""
    metrics = Metrics()
    labels = {
        each.describe()[0].name: each._labelnames  # noqa: SLF001 - it tells them in no other way
        for each in vars(metrics).values()
        if each is not metrics.registry
    }
    return {each.name: (each.type, labels[each.name]) for each in metrics.registry.collect()}


def series() -> dict[str, set[str]]:
    """Return the labels of each name that a query may use."""
    return {
        name + suffix: {*labels, "instance", "job", *(("le",) if suffix == "_bucket" else ())}
        for name, (kind, labels) in families().items()
        for suffix in KINDS[kind]
    }


def check(expression: str) -> None:
    known = series()
    names = re.findall(r"\bgateway_\w+", expression)
    assert names, expression
    assert set(names) <= known.keys(), expression
    allowed = set().union(*(known[name] for name in names))
    used = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        used += [label.strip() for label in group.split(",")]
    assert set(used) <= allowed, expression


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    board = json.loads((ROOT / "deploy" / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    for expression in expressions:
        check(expression)
    shown = " ".join(expressions)
    assert [name for name in families() if not re.search(rf"\b{name}", shown)] == []
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def alerts() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())[
        "groups"
    ]
    return [rule for group in groups for rule in group["rules"]]


def test_every_alert_asks_what_is_there_and_says_what_to_do() -> None:
    rules = alerts()
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        check(rule["expr"])
        assert re.fullmatch(r"\d+[smh]", rule["for"])
        assert rule["labels"]["severity"] in {"page", "ticket"}
        for sentence in (rule["annotations"]["summary"], rule["annotations"]["runbook"]):
            assert sentence.endswith("."), rule["alert"]
        assert len(rule["annotations"]["runbook"].split()) >= 8, rule["alert"]


def test_what_alerts_on_its_first_time_is_shown_before_it() -> None:
    shown = Metrics().render().decode()
    asked = {each for rule in alerts() for each in re.findall(r"increase\(([^[]+)", rule["expr"])}
    assert len(asked) > 5
    for name in asked:
        assert re.search(rf"^{re.escape(name)}({{.*}})? 0\.0$", shown, re.MULTILINE), name


def test_every_alert_that_calls_somebody_has_its_part_of_the_page() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text()
    headings = {
        name for line in re.findall(r"^## (.*)$", page, re.MULTILINE) for name in line.split(", ")
    }
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in alerts()}
    assert {name for name in headings if name.startswith("Gateway")} <= severities.keys()
    assert {name for name, severity in severities.items() if severity == "page"} <= headings


def test_the_readme_lists_every_metric_with_its_labels() -> None:
    metrics = Metrics()
    about = {each.name: each.documentation for each in metrics.registry.collect()}
    expected = [
        [
            f"`{name}_total`" if kind == "counter" else f"`{name}`",
            kind,
            ", ".join(f"`{label}`" for label in labels),
            about[name],
        ]
        for name, (kind, labels) in families().items()
    ]
    assert rows_of("Operating it")[1:] == expected
