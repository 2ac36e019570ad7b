"""The pages of runs: their content, and that text of the target or the model stays text."""

import hashlib
import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ape_infra.runs import pages
from ape_infra.runs.compare import differences
from ape_infra.runs.pages import shown
from ape_infra.runs.pages.charts import MAX_POINTS, of_run, of_two
from ape_infra.runs.pages.frame import embedded
from tests.support.run_data import ENDPOINTS, measurements, summary, transcript

pytestmark = pytest.mark.unit
VENDOR = Path(pages.__file__).parent / "vendor"
EVIL = (
    "</script><script>alert(1)</script><img src=http://evil.example onerror=alert(1)>"
    "'\"&\u2028\u202e\x1b{{7*7}}<!--"
)
RUN = measurements(1, intervals=8, warm_up=1)


class Page(HTMLParser):
    """The elements of a page, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and self.cdata_elem:
            self.scripts.append(data)
        else:
            self.text += data

    def data(self) -> Any:
        return json.loads(self.scripts[0])


def evil_run() -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    run = measurements(1, intervals=5, endpoints={EVIL: (1.0, 0.1)})
    found = summary(run, EVIL)
    for key in ("stack", "project"):
        found[key] = EVIL
    found["notes"] = [EVIL]
    found["settings"] = {EVIL: EVIL}
    found["model"] = {"kind": EVIL, "provider": EVIL, "name": EVIL}
    found["versions"]["images"] = {EVIL: EVIL}
    found["thresholds"][0]["expression"] = EVIL
    found["sessions"]["reasons"] = {EVIL: 3}
    found["sessions"]["failures"] = [{"reason": EVIL, "detail": EVIL, "sessions": 3}]
    found["endpoints"][0]["errors"] = {EVIL: 1}
    found["scenarios"] = {EVIL: found["sessions"], "b": found["sessions"]}
    call = {"function": {"name": EVIL, "arguments": EVIL}}
    messages: list[Any] = [{"role": EVIL, "content": EVIL, "tool_calls": [call, EVIL]}, EVIL]
    said = {"reason": EVIL, "detail": EVIL, "scenario": EVIL, "session": EVIL, "messages": messages}
    return found, run, [said]


def assert_loads_nothing(text: str) -> None:
    page = Page(text)
    names = [tag for tag, _ in page.elements]
    assert names.count("script") == 3
    assert not {"img", "link", "iframe", "object", "base", "form", "a"} & set(names)
    for _, attributes in page.elements:
        assert not {"src", "href", "srcset", "style", "action"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
    styles = "".join(re.findall(r"<style>(.*?)</style>", text, re.S))
    assert "url(" not in styles
    assert "@import" not in styles
    own = page.scripts[2]
    assert not re.search(r"fetch\(|XMLHttpRequest|innerHTML|import\(|document\.write|eval\(", own)
    assert "http" not in own + styles
    assert len(text.encode()) <= pages.MAX_BYTES


def test_report_has_results_and_loads_nothing() -> None:
    text = pages.report(summary(RUN), RUN, [transcript(), transcript(8, "model_error")])
    assert_loads_nothing(text)
    page = Page(text)
    assert "failed: 1 of 4 thresholds not met" in page.text
    for words in (
        *ENDPOINTS,
        "cerebras llama-3.3-70b",
        "session_success >= 0.99",
        "Goodput",
        "ape-gateway@sha256:",
    ):
        assert words in page.text
    assert (
        page.text.index("not met")
        < page.text.index("GET /products")
        < page.text.index("Time lines")
    )
    assert [tag for tag, _ in page.elements].count("details") == 3
    assert 'request {"path": "/products"}' in page.text
    titles = [x["title"] for x in page.data()["charts"]]
    assert titles[:3] == ["Active agents", "Sessions per second", "Session success"]
    assert "Cost so far" in titles


def test_keyboard_reaches_the_wide_tables_of_a_report_below_one_main_element() -> None:
    page = Page(pages.report(summary(RUN), RUN, [transcript()]))
    tags = [tag for tag, _ in page.elements]
    wide = [attributes for _, attributes in page.elements if attributes.get("class") == "wide"]
    texts = [attributes for tag, attributes in page.elements if tag == "pre"]
    assert tags.count("main") == 1
    assert wide
    assert texts
    assert {each.get("tabindex") for each in (*wide, *texts)} == {"0"}


def test_text_of_the_target_or_the_model_stays_text_in_a_report() -> None:
    text = pages.report(*evil_run())
    assert_loads_nothing(text)
    assert "<script>alert" not in text
    for character in "\u2028\u202e\x1b":
        assert character not in text
    page = Page(text)
    assert page.text.count("<script>alert(1)</script>") > 15, "it is shown"
    choices = next(x for x in page.data()["charts"] if "choices" in x)["choices"]
    assert choices[0][1][0]["name"].startswith("</script><script>")
    assert not set(choices[0][1][0]["name"]) & set("\u2028\u202e\x1b")


def test_text_of_the_target_or_the_model_stays_text_in_a_comparison() -> None:
    found, run, _ = evil_run()
    other = found | {"settings": {EVIL: "x"}, "endpoints": []}
    both = pages.Run(found, run), pages.Run(other, run)
    text = pages.comparison(*both, differences(run, run, resamples=20))
    assert_loads_nothing(text)
    assert "<script>alert" not in text
    assert "Only A has requests to:" in text


@pytest.mark.parametrize("value", [EVIL, "\u2028\u2029", "<!-- <script>", "]]>"])
def test_embedded_data_is_the_same_and_has_no_html(value: str) -> None:
    made = embedded({value: [value, None, 1.5]})
    assert json.loads(made) == {value: [value, None, 1.5]}
    assert not set(made) & set("<>&'\u2028\u2029")


def test_policy_of_a_page_allows_its_two_scripts_only() -> None:
    page = Page(pages.report(summary(RUN), RUN, []))
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert policy.count("'sha256-") == 2
    assert "unsafe-inline" not in policy.split(";")[1]


def test_library_of_the_charts_is_the_published_one() -> None:
    note = json.loads((VENDOR / "uPlot.json").read_text("utf-8"))
    assert (note["version"], note["license"]) == ("1.6.32", "MIT")
    assert "MIT License" in (VENDOR / "uPlot.LICENSE").read_text("utf-8")
    for name, digest in note["files"].items():
        content = (VENDOR / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        assert b"</script" not in content
        assert b"</style" not in content


def test_files_of_the_pages_are_part_of_the_package() -> None:
    folder = VENDOR.parent
    project = tomllib.loads((folder.parents[2] / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["ape_infra.runs.pages"]
    packed = {file for pattern in patterns for file in folder.glob(pattern)}
    files = {x for x in folder.rglob("*") if x.is_file() and x.suffix not in (".py", ".pyc", ".j2")}
    assert files == packed


def test_page_of_a_large_run_stays_within_its_limit() -> None:
    names = {f"GET /things/{n}/" + "x" * 60: (1 / 200, 0.1) for n in range(200)}
    run = measurements(1, intervals=1, endpoints=names, requests=400)
    run["intervals"] = [
        run["intervals"][0] | {"from": 10.0 * n, "to": 10.0 * n + 10} for n in range(12)
    ]
    found = summary(run)
    found["endpoints"] *= 10
    long = [
        transcript(n) | {"messages": [{"role": "tool", "content": "<" * 30_000}]} for n in range(90)
    ]
    text = pages.report(found, run, long)
    assert len(text.encode()) <= pages.MAX_BYTES
    assert "more: endpoints.csv has all." in text
    assert "more in the folder transcripts." in text


def test_time_lines_of_a_long_run_have_a_bounded_number_of_points() -> None:
    run = measurements(1, intervals=2, endpoints={"GET /": (1.0, 0.1)}, requests=8)
    one = run["intervals"][0]
    run["intervals"] = [one | {"from": 10.0 * n, "to": 10.0 * n + 10} for n in range(1000)]
    found = of_run(run, "closed")
    assert len(found["tables"][0]) == 500 <= MAX_POINTS
    rate = next(x for x in found["charts"] if x["title"] == "Requests per second")["lines"][0]
    assert set(rate["values"]) == {0.8}


def test_time_lines_follow_the_executor_and_mark_the_warm_up() -> None:
    closed, opened = of_run(RUN, "closed"), of_run(RUN, "open")

    def lines(found: dict[str, Any], title: str) -> list[str]:
        return [x["name"] for c in found["charts"] if c["title"] == title for x in c["lines"]]

    assert lines(closed, "Active agents") == ["active", "target"]
    assert lines(opened, "Sessions per second") == ["succeeded", "failed", "dropped", "target"]
    assert closed["bands"] == [[0, 10, "warm_up"]]
    assert closed["tables"] == [[10.0 * n for n in range(1, 10)]]


def test_charts_of_two_runs_have_both_and_their_own_times() -> None:
    found = of_two(RUN, measurements(2, intervals=3))
    assert [len(table) for table in found["tables"]] == [9, 3]
    for chart in found["charts"]:
        for lines in [x[1] for x in chart.get("choices", [])] or [chart["lines"]]:
            assert [(x["table"], x["dash"]) for x in lines] == [(0, True), (1, False)]


def test_run_without_intervals_or_values_has_a_page() -> None:
    nothing = {"version": 1, "interval_seconds": 10, "intervals": []}
    found = summary(RUN) | {"endpoints": [], "thresholds": [], "state": "partial"}
    text = pages.report(found, nothing, [])
    assert "The run has no thresholds." in text
    assert "ended before its first interval" in text
    quiet = {**RUN["intervals"][0], "endpoints": {}, "ttft": None, "cost_dollars": None}
    assert of_run(nothing | {"intervals": [quiet]}, "closed")["charts"]


def test_transcripts_that_fit_are_kept_one_of_each_reason_first() -> None:
    found = [shown.Transcript(reason, "", [], 10) for reason in ("a", "a", "a", "b")]
    assert [x.reason for x in shown.fitting(found, 25)] == ["a", "b"]
    assert [x.reason for x in shown.fitting(found, 35)] == ["a", "a", "b"]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (shown.seconds(0.0123), "12.3 ms"),
        (shown.seconds(1.5), "1.5 s"),
        (shown.seconds(0.9999), "1 s"),
        (shown.seconds(3725), "1 h 2 min 5 s"),
        (shown.seconds(None), "-"),
        (shown.seconds(0), "0 ms"),
        (shown.number(1234567), "1,234,567"),
        (shown.number(0.00001234), "0.000012"),
        (shown.number(1234.5), "1,234"),
        (shown.share(0.98765), "98.8 %"),
        (shown.share(0.9996), "99.96 %"),
        (shown.share(1.0), "100 %"),
        (shown.dollars(0.00421), "$0.00421"),
        (shown.dollars(12.3), "$12.30"),
        (shown.change("seconds", -0.01), "0.0 %"),
        (shown.change("share", 2.0), "+2.0 points"),
        (shown.change("rate", 12345.0), "+12,345 %"),
    ],
)
def test_values_are_shown_with_a_unit(made: str, expected: str) -> None:
    assert made == expected
