"""A run as JUnit XML, which pipelines show: a test case for each threshold."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree as Xml

from ape_contracts.text import plain
from ape_infra.runs.summary import Summary, ThresholdResult

# Of runs that have not come to their end; a pipeline must not take those for passed.
_UNFINISHED = {
    "aborted": "A threshold ended the run.",
    "stopped": "The run was stopped by hand.",
    "partial": "The run has not come to its end.",
}


def junit(summary: Summary) -> str:
    suite = Xml.Element(
        "testsuite",
        name=f"ape-load run {plain(summary.stack)}",
        id=plain(summary.run),
        time=f"{max(0.0, summary.ended - summary.started):.3f}",
        timestamp=datetime.fromtimestamp(summary.started, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
    )
    for threshold in summary.thresholds:
        case = _case(suite, threshold.expression)
        if not threshold.passed:
            failure = Xml.SubElement(case, "failure", message=_failure(threshold))
            failure.text = _failure(threshold)
    end = _case(suite, "the run comes to its end")
    if words := _UNFINISHED.get(summary.state):
        notes = " ".join(plain(note) for note in summary.notes)
        Xml.SubElement(end, "failure", message=words).text = f"{words} {notes}".strip()
    cases = suite.findall("testcase")
    failures = sum(case.find("failure") is not None for case in cases)
    for name, number in (("tests", len(cases)), ("failures", failures), ("errors", 0)):
        suite.set(name, str(number))
    text: str = Xml.tostring(suite, "unicode", xml_declaration=False)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _case(suite: Xml.Element, name: str) -> Xml.Element:
    return Xml.SubElement(suite, "testcase", classname="thresholds", name=plain(name))


def _failure(threshold: ThresholdResult) -> str:
    if threshold.value is None:
        return "No sample was measured."
    return f"The value is {threshold.value:.6g}, of {threshold.samples} samples."
