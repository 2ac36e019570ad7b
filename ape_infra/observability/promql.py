"""PromQL built from the list of metrics, so that no query names what is not there."""

from __future__ import annotations

from ape_contracts.metrics import Metric

# Every series carries them (prometheus.config), so no aggregation loses them.
SCOPE = ("project", "stack")
# Long enough for 24 scrapes, short enough to see a fault of two minutes.
WINDOW = "2m"


def series(metric: Metric, *matchers: str, suffix: str = "") -> str:
    """A selector: name{matchers}. `suffix`: _bucket, _sum or _count of a histogram."""
    return f"{metric.name}{suffix}" + (f"{{{','.join(matchers)}}}" if matchers else "")


def rate(metric: Metric, *matchers: str, suffix: str = "", window: str = WINDOW) -> str:
    return f"rate({series(metric, *matchers, suffix=suffix)}[{window}])"


def total(expr: str, *by: str, op: str = "sum") -> str:
    """`op` over all but the scope and `by`."""
    return f"{op} by ({', '.join((*SCOPE, *by))}) ({expr})"


def quantile(q: float, metric: Metric, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """The q-quantile of a histogram over WINDOW."""
    buckets = total(rate(metric, *matchers, suffix="_bucket"), "le", *by)
    return f"histogram_quantile({q:g}, {buckets})"


def ratio(part: str, whole: str) -> str:
    """part / whole, both totals; 0 where only the part is missing, nothing where the whole is."""
    return f"({part} or {whole} * 0) / ({whole} > 0)"
