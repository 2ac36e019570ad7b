"""Checks of the settings and of the files that they name. They need no daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ape_infra.checks.check import Check
from ape_infra.config import document, upload
from ape_infra.config.credentials import Credentials
from ape_infra.config.errors import SettingsError
from ape_infra.config.files import (
    Scenario,
    SignIn,
    gateway_config,
    model_ca,
    model_recording,
    target_url,
)
from ape_infra.config.project import config_key
from ape_infra.config.secrets import TARGET_CREDENTIALS
from ape_infra.config.settings import Settings


def broken(name: str, error: SettingsError) -> Iterator[Check]:
    """One failed check for each broken rule."""
    for line in error.lines:
        yield Check(name, "fail", line)


def scenario(settings: Settings, root: Path) -> Iterator[Check]:
    """The gateway config must have the route and the endpoints of the agents' goal."""
    try:
        config, api = gateway_config(settings, root)
        upload.content(settings, root, config)
        found = Scenario.of(settings, root, api)
    except SettingsError as error:
        yield from broken("gateway", error)
        return
    told = f"{len(found.endpoints)} endpoints"
    if settings.target.openapi:
        operations = document.read(settings, root).operations.operations
        told = f"{len(operations)} operation{'s' if len(operations) > 1 else ''}"
    yield Check("gateway", "ok", f"route {api}, {told}, goal: {found.goal}")


def sign_in(settings: Settings, root: Path, read: Callable[[], Credentials]) -> Iterator[Check]:
    """The credentials must suffice for the sign-in that is declared. `read` reads their names."""
    try:
        config, api = gateway_config(settings, root)
    except SettingsError:
        # `scenario` reports it.
        return
    try:
        found = SignIn.of(settings, root, read(), target_url(config, api))
    except SettingsError as error:
        yield from broken("sign-in", error)
        return
    if found.problem:
        yield Check("sign-in", "warn", f"{config_key(TARGET_CREDENTIALS)}: {found.problem}")
    elif found.steps:
        yield Check("sign-in", "ok", f"{found.words}.")


def signs_in(settings: Settings, root: Path, read: Callable[[], Credentials]) -> bool:
    """Whether agents sign in, and the credentials suffice for it."""
    return any(check.status == "ok" for check in sign_in(settings, root, read))


def model_files(settings: Settings, root: Path) -> Iterator[Check]:
    """The files of the model must be readable and valid."""
    for read in (model_ca, model_recording):
        try:
            read(settings, root)
        except SettingsError as error:
            yield from broken("model", error)
