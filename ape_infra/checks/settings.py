"""Checks of the settings and of the files that they name. They need no daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ape_infra.checks.check import Check
from ape_infra.config import document
from ape_infra.config.errors import SettingsError
from ape_infra.config.files import Scenario, gateway_config, model_ca, model_recording
from ape_infra.config.settings import Settings


def broken(name: str, error: SettingsError) -> Iterator[Check]:
    """One failed check for each broken rule."""
    for line in error.lines:
        yield Check(name, "fail", line)


def scenario(settings: Settings, root: Path) -> Iterator[Check]:
    """The gateway config must have the route and the endpoints of the agents' goal."""
    try:
        _, api = gateway_config(settings, root)
        found = Scenario.of(settings, root, api)
    except SettingsError as error:
        yield from broken("gateway", error)
        return
    told = f"{len(found.endpoints)} endpoints"
    if settings.target.openapi:
        operations = document.read(settings, root).operations.operations
        told = f"{len(operations)} operation{'s' if len(operations) > 1 else ''}"
    yield Check("gateway", "ok", f"route {api}, {told}, goal: {found.goal}")


def model_files(settings: Settings, root: Path) -> Iterator[Check]:
    """The files of the model must be readable and valid."""
    for read in (model_ca, model_recording):
        try:
            read(settings, root)
        except SettingsError as error:
            yield from broken("model", error)
