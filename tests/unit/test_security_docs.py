"""The threat model names tests that exist, and the table of policies names the rules."""

import re
from pathlib import Path

import pytest

from ape_policy import RULES

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]


def test_the_threat_model_names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/explanation/security.md").read_text()))
    files = (ROOT / "tests").rglob("test_*.py")
    known = {
        name for file in files for name in re.findall(r"def (test_\w+)\(", file.read_text("utf-8"))
    }
    assert len(named) > 30
    assert named <= known, named - known


def test_the_table_of_policies_names_every_rule() -> None:
    text = (ROOT / "docs/pipeline.md").read_text()
    table = text.partition("## The policies")[2].partition("The stack needs")[0]
    named = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    assert sorted(named) == sorted(rule.name for rule in RULES)
