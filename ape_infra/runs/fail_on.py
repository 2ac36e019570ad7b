"""Conditions on a comparison, such as `http_req_duration.p95 > +10%`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ape_infra.runs.compare import Difference, beyond

CONDITION = re.compile(
    r"""\s*(?P<metric>[a-z_]+)\s*(\{\s*endpoint\s*=\s*"(?P<endpoint>[^"]*)"\s*\})?\s*
    (\.\s*(?P<aggregate>[a-z]+\d*))?\s*(?P<sign>[<>])\s*(?P<limit>[+-]?\d+(\.\d+)?)\s*(%|points)?\s*""",
    re.VERBOSE,
)
ALIASES = {"med": "p50"}


class ConditionError(ValueError):
    """The condition is not one; the text states the rule and the remedy."""


class Condition(NamedTuple):
    """`limit` is in percent, or in points of a share."""

    text: str
    name: str
    sign: str
    limit: float


class Outcome(NamedTuple):
    """`holds`: the change is beyond the limit, and its 95 % interval leaves out no change."""

    condition: Condition
    difference: Difference
    holds: bool


def parse(text: str) -> Condition:
    """Raises ConditionError."""
    found = CONDITION.fullmatch(text)
    if not found:
        raise ConditionError(
            f"--fail-on {text!r}: is not a condition. It has a metric, < or >, and a change in "
            "percent: http_req_duration.p95 > +10%"
        )
    sign, limit = found["sign"], float(found["limit"])
    if limit < 0 if sign == ">" else limit > 0:
        raise ConditionError(
            f"--fail-on {text!r}: would hold without any change. Use > with a limit from 0, and < "
            "with a limit up to 0."
        )
    aggregate = found["aggregate"] or ""
    aggregate = ALIASES.get(aggregate, aggregate)
    endpoint = found["endpoint"]
    labels = f'{{endpoint="{endpoint}"}}' if endpoint is not None else ""
    name = f"{found['metric']}{labels}{'.' if aggregate else ''}{aggregate}"
    return Condition(text.strip(), name, sign, limit)


def judge(condition: Condition, differences: Sequence[Difference]) -> Outcome:
    """Whether the condition holds beyond noise. Raises ConditionError if that cannot be known."""
    named = {x.name.removesuffix(".rate"): x for x in differences}
    found = named.get(condition.name.removesuffix(".rate"))
    if found is None:
        general = sorted(name for name, x in named.items() if x.endpoint is None)
        raise ConditionError(
            f"--fail-on {condition.text!r}: both runs have no {condition.name}. Name one of "
            f"{', '.join(general)}, or a percentile of an endpoint of both runs: "
            'http_req_duration{endpoint="GET /"}.p95'
        )
    holds = beyond(found, condition.sign, condition.limit)
    if holds is None:
        raise ConditionError(
            f"--fail-on {condition.text!r}: cannot be evaluated, since a run has too few "
            "intervals or samples of it. Run both tests for longer, or leave the condition out."
        )
    return Outcome(condition, found, holds)
