"""Settings of a run: what they stand for, and what is refused with path, rule and remedy."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ape_infra.config.durations import DurationError, seconds, words
from ape_infra.config.errors import SettingsError
from ape_infra.config.parsing import parse
from ape_infra.config.settings import Settings
from ape_infra.config.thresholds import METRICS

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[3]


def settings_of(**given: Any) -> Settings:
    """The settings of a stack config, whose values are texts."""
    return parse({k: v if isinstance(v, str) else json.dumps(v) for k, v in given.items()})


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("1.5s", 1.5),
        ("10m", 600),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1h2m3s4ms", 3723.004),
        ("0s", 0),
    ],
)
def test_a_duration_is_a_number_of_seconds(text: str, total: float) -> None:
    assert seconds(text) == total
    assert seconds(words(total)) == total


@pytest.mark.parametrize("text", ["", "30", "5x", "s", "-5s", "5s5m", "1e3s", "721h", "5 s", "٣s "])
def test_a_text_that_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(DurationError, match="a duration is "):
        seconds(text)


@pytest.mark.parametrize(
    ("given", "stages"),
    [
        ({}, [(300, 5, 5)]),
        ({"duration": "10m", "agents": "7"}, [(600, 7, 7)]),
        ({"executor": "open", "rate": "2.5"}, [(300, 2.5, 2.5)]),
        (
            {
                "stages": [
                    {"duration": "30s", "target": 5},
                    {"duration": "1m", "target": 5},
                    {"duration": "10s", "target": 0, "from": 2},
                ]
            },
            [(30, 0, 5), (60, 5, 5), (10, 2, 0)],
        ),
    ],
)
def test_stages_change_evenly_from_the_target_of_the_one_before(
    given: dict[str, Any], stages: list[tuple[float, float, float]]
) -> None:
    settings = settings_of(**given)
    assert list(settings.run.planned(settings.fleet.agents)) == stages


STAGE = {"duration": "1m", "target": 2}
SUCCESS = {"method": "GET", "path": "/", "status": 200}
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"executor": "fast"}, 'ape:executor: is "fast"; ', "'open'"),
    ({"executor": "open"}, "ape:rate: is empty, but executor is open", "or stages"),
    ({"executor": "open", "rate": "0"}, "ape:rate: is 0, but executor is open", "or stages"),
    ({"rate": "2"}, "ape:rate: is 2, but executor is closed", "Set executor to open"),
    ({"executor": "open", "rate": "10001"}, "ape:rate: is 10001, above the maximum", "Lower"),
    (
        {"executor": "open", "rate": "60", "duration": "30h"},
        "ape:rate: would start 6480000 sessions, above the maximum of 5000000",
        "shorten",
    ),
    ({"rate": "many"}, 'ape:rate: is "many"; ', "match"),
    (
        {"executor": "open", "rate": "2", "stages": [STAGE]},
        "ape:rate: is 2, but stages",
        "Remove one",
    ),
    ({"duration": "5m", "stages": [STAGE]}, "ape:duration: is 5m, but stages", "Remove one"),
    ({"arrivals": "poisson"}, "ape:arrivals: is poisson, but executor is closed", "to constant"),
    ({"duration": "300"}, 'ape:duration: is "300"; a duration is a number with h', "30s"),
    ({"duration": "0s"}, 'ape:duration: is "0s"; the time must be above zero', "30s"),
    (
        {"stages": [STAGE, {"duration": "0s", "target": 2}]},
        'ape:stages[1].duration: is "0s"; the time must be above zero',
        "30s",
    ),
    ({"stages": [{"duration": 30, "target": 1}]}, "ape:stages[0].duration: is 30; ", "30s"),
    ({"stages": [{"target": 1}]}, "ape:stages[0].duration: is missing", ""),
    ({"stages": [STAGE | {"rate": 1}]}, "ape:stages[0].rate: is not a setting", ""),
    ({"stages": [STAGE | {"target": -1}]}, "ape:stages[0].target: is -1; ", "greater"),
    ({"stages": '[{"duration": "1m", "target": NaN}]'}, "ape:stages[0].target: is NaN; ", ""),
    ({"stages": [STAGE | {"target": 1.5}]}, "ape:stages[0].target: is 1.5, but", "whole number"),
    (
        {"stages": [STAGE | {"target": 50}]},
        "ape:stages[0].target: is 50, above agents, which is 5",
        "set agents to 50",
    ),
    ({"stages": [STAGE | {"from": 50}]}, "ape:stages[0].from: is 50, above agents", ""),
    ({"stages": [STAGE | {"target": 0}]}, "ape:stages: has no target above 0", "Raise"),
    (
        {"stages": [STAGE], "warmUp": "30s", "rampDown": "30s"},
        "ape:warmUp: is 30s, and rampDown is 30s: nothing of the 1m of a run would count",
        "lengthen",
    ),
    (
        {"scenarios": [{"name": "a", "weight": 0}, {"name": "b", "weight": 0}]},
        "ape:scenarios: have weights that add up to 0",
        "Set a weight",
    ),
    ({"scenarios": [{"name": "a"}, {"name": "a"}]}, "ape:scenarios[1].name: is a, the same", "Set"),
    ({"scenarios": [{"name": "A b"}]}, 'ape:scenarios[0].name: is "A b"; ', "match"),
    ({"scenarios": [{"name": "a", "aim": "x"}]}, "ape:scenarios[0].aim: is not a setting", ""),
    (
        {"scenarios": [{"name": "a", "operations": ["orders"]}]},
        'ape:scenarios[0].operations[0]: is "orders", which is not a selector',
        "METHOD /path",
    ),
    ({"scenarios": [{"name": "a", "operations": []}]}, "ape:scenarios[0].operations: is []; ", ""),
    (
        {"scenarios": [{"name": "a", "success": SUCCESS | {"equals": 1}}]},
        "ape:scenarios[0].success.equals: has no `value_path`",
        "Add",
    ),
    (
        {"scenarios": [{"name": "a", "thinkTime": "11m"}]},
        "ape:scenarios[0].thinkTime: is 11m, above the maximum of 10m",
        "Lower",
    ),
    (
        {"scenarios": [{"name": "a", "thinkTime": "9s", "maxSeconds": 9}]},
        "ape:scenarios[0].maxSeconds: leaves a session of 9 s no time",
        "lower thinkTime",
    ),
    ({"usersSecret": ["password"]}, "ape:usersSecret: is set, but users is not", "path"),
    ({"thresholds": ["ttft.p95"]}, "ape:thresholds[0]: at character 9: the end", "<="),
    (
        {"thresholds": ["sessions > 1", "itl.p95 < x"]},
        'ape:thresholds[1]: at character 11: "x" is not a number',
        "0.5",
    ),
    ({"thresholds": [{"threshold": "sessions > 1"}]}, "ape:thresholds[0]: is {", "string"),
    ({"transcripts": "-1"}, "ape:transcripts: is -1; ", "greater"),
]


@pytest.mark.parametrize(("given", "start", "part"), REFUSED, ids=lambda v: str(v)[:40])
def test_an_invalid_run_is_refused_with_path_rule_and_remedy(
    given: dict[str, Any], start: str, part: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_of(**given)
    line = next((line for line in caught.value.lines if line.startswith(start)), "")
    assert line, caught.value.lines
    assert part in line


def blocks() -> list[dict[str, Any]]:
    text = (ROOT / "docs/how-to/run-a-load-test.md").read_text()
    found = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    return [yaml.safe_load(b) for b in found if re.match(r"    \w+:", b)]


@pytest.mark.parametrize("block", blocks(), ids=lambda b: "-".join(b))
def test_an_example_of_the_docs_is_valid(block: dict[str, Any]) -> None:
    settings_of(**block)


def test_the_reference_has_every_metric_of_thresholds() -> None:
    text = (ROOT / "docs/reference/thresholds.md").read_text()
    assert re.findall(r"^\| `(\w+)` \| [\w/]+ \|", text, re.MULTILINE) == list(METRICS)
