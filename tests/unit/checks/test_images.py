"""The check of external images: what it recommends where one cannot be pulled."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from docker.errors import APIError, ImageNotFound

from ape_infra.checks import images
from ape_infra.checks.check import Check
from ape_infra.checks.facts import Facts
from ape_infra.config.parsing import parse

pytestmark = pytest.mark.unit


class Images:
    """The images of a daemon that reaches no registry."""

    def __init__(self, missing: str) -> None:
        self.missing = missing

    def get(self, image: str) -> None:
        if self.missing in image:
            raise ImageNotFound("no such image")

    def get_registry_data(self, image: str) -> None:
        raise APIError("no route to host")


def found(missing: str, **config: str) -> list[Check]:
    settings = parse({"observability": "full"} | config, ["grafanaPassword"])
    client = SimpleNamespace(images=Images(missing))
    facts: Any = SimpleNamespace(settings=settings, client=client)
    return list(images.available(cast("Facts", facts)))


def test_loki_that_cannot_be_pulled_is_replaced_by_victorialogs() -> None:
    (check,) = found("loki")
    assert (check.status, check.path) == ("fail", "ape:lokiImage")
    assert "set ape:logStore to victorialogs" in check.remedy
    assert "offline/images.sh full" in check.remedy


@pytest.mark.parametrize("part", ["prometheus", "alertmanager", "victoria", "alloy"])
def test_part_with_a_stand_in_is_not_left_out(part: str) -> None:
    (check,) = found(part, logStore="victorialogs")
    assert check.path.startswith(f"ape:{part}")
    assert "run `offline/images.sh full`" in check.remedy
    assert "observabilityParts" not in check.remedy


def test_part_without_a_stand_in_is_left_out() -> None:
    (check,) = found("grafana/grafana", logStore="victorialogs")
    assert "prometheus, alertmanager, victorialogs, alloy" in check.remedy


def test_images_that_are_present_pass() -> None:
    (check,) = found("nothing-is-missing")
    assert check.status == "ok"
