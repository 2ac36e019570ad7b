"""What a PromQL expression names, and whether that is in the list of metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import promql_parser as promql

from ape_contracts import metrics
from ape_contracts.metrics import Metric
from ape_infra.observability import external_metrics, recording_rules
from ape_infra.observability.promql import SCOPE
from ape_infra.reporting.panels import plain

METRICS: dict[str, Metric] = {
    m.name: m
    for m in (*metrics.ALL, *external_metrics.ALL, *(r.metric for r in recording_rules.RULES))
}
# Of every series that Prometheus scrapes.
TARGET = {*SCOPE, "job", "instance"}


def metric_of(name: str) -> Metric | None:
    """The metric of a series' name; a histogram has three kinds of series."""
    if name in METRICS:
        return METRICS[name]
    base, _, suffix = name.rpartition("_")
    found = METRICS.get(base)
    return found if found and found.kind == "histogram" and suffix in _SUFFIXES else None


_SUFFIXES = ("bucket", "sum", "count")


def _labels(name: str) -> set[str] | None:
    metric = metric_of(name)
    if metric is None:
        return None
    return {*metric.labels, *TARGET} | ({"le"} if name.endswith("_bucket") else set())


def problems(expr: str) -> list[str]:
    """Metrics and labels of `expr` that nothing exports."""
    found: list[str] = []
    _walk(promql.parse(plain(expr)), found)
    return found


def _walk(node: Any, found: list[str]) -> set[str]:
    """The labels that the node's series may have."""
    if isinstance(node, promql.MatrixSelector):
        return _walk(node.vector_selector, found)
    if isinstance(node, promql.VectorSelector):
        labels = _labels(str(node.name))
        if labels is None:
            found.append(f"{node.name}: no such metric")
            return set()
        asked = {m.name for m in node.matchers.matchers} - {"__name__"}
        found += [f"{node.name}: no label {label}" for label in sorted(asked - labels)]
        return labels
    if isinstance(node, promql.AggregateExpr):
        labels = _walk(node.expr, found)
        by = set(node.modifier.labels) if node.modifier else set()
        found += [f"{node.expr.prettify()}: no label {label}" for label in sorted(by - labels)]
        # topk keeps the labels of what it chooses.
        return labels if str(node.op) in ("topk", "bottomk") else by
    if isinstance(node, promql.Call):
        made = set().union(*(_walk(a, found) for a in node.args))
        if node.func.name == "label_replace":
            made.add(node.args[1].val)
        return made
    if isinstance(node, promql.BinaryExpr):
        return _walk(node.lhs, found) | _walk(node.rhs, found)
    if isinstance(node, promql.ParenExpr | promql.SubqueryExpr | promql.UnaryExpr):
        return _walk(node.expr, found)
    return set()


def selected(expr: str) -> Iterator[str]:
    """Names of the series that `expr` reads."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, promql.MatrixSelector):
            yield str(node.vector_selector.name)
        elif isinstance(node, promql.VectorSelector):
            yield str(node.name)
        for part in ("expr", "lhs", "rhs"):
            if hasattr(node, part):
                yield from walk(getattr(node, part))
        for argument in getattr(node, "args", ()):
            yield from walk(argument)

    return walk(promql.parse(plain(expr)))
