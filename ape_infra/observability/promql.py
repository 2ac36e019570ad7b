"""PromQL built from the metric catalog, so that no query names a metric that does not exist."""

from __future__ import annotations

from ape_contracts.metrics import Metric

# Every series has these labels (prometheus.config), so aggregations keep them.
SCOPE = ("project", "stack")
# Long enough for 24 scrapes, short enough to show a fault of two minutes.
WINDOW = "2m"


def series(metric: Metric, *matchers: str, suffix: str = "") -> str:
    """Return a selector, `name{matchers}`. `suffix`: _bucket, _sum or _count of a histogram."""
    return f"{metric.name}{suffix}" + (f"{{{','.join(matchers)}}}" if matchers else "")


def rate(metric: Metric, *matchers: str, suffix: str = "", window: str = WINDOW) -> str:
    return f"rate({series(metric, *matchers, suffix=suffix)}[{window}])"


def total(expr: str, *by: str, op: str = "sum") -> str:
    """Aggregate over all labels except the scope and `by`."""
    return f"{op} by ({', '.join((*SCOPE, *by))}) ({expr})"


def quantile(q: float, metric: Metric, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return the q-quantile of a histogram over WINDOW."""
    buckets = total(rate(metric, *matchers, suffix="_bucket"), "le", *by)
    return f"histogram_quantile({q:g}, {buckets})"


def ratio(part: str, whole: str) -> str:
    """Divide two totals: 0 if only `part` has no series, no series if `whole` has none."""
    return f"({part} or {whole} * 0) / ({whole} > 0)"
