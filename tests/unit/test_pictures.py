"""The pictures of README and documentation."""

import re

import pytest

from ape_infra.runs.summary import Summary
from scripts import pictures
from tests.support.run_data import measurements, summary

pytestmark = pytest.mark.unit


def test_picture_of_a_terminal_loads_nothing_and_has_the_results() -> None:
    found = Summary.model_validate(summary(measurements(1, intervals=4)))
    drawn = pictures.terminal(found)
    addresses = set(re.findall(r"https?://[^\"' )]+", drawn))
    assert addresses <= {"http://www.w3.org/2000/svg", "https://www.textualize.io"}
    assert "@font-face" not in drawn
    assert found.run in drawn
