"""The entry of the Pulumi program: read the stack's settings, declare the stack."""

from __future__ import annotations

import asyncio
from importlib import import_module

import pulumi
from pulumi.runtime.config import CONFIG

from ape_contracts.service_settings import ServiceSettingsError
from ape_infra import sdk_patches
from ape_infra.config.agent_token import agent_token
from ape_infra.config.credentials import Credentials
from ape_infra.config.errors import SettingsError
from ape_infra.config.name_key import NameKey, passphrase
from ape_infra.config.parsing import parse_config
from ape_infra.config.project import current
from ape_infra.config.provider import key_secret
from ape_infra.config.report_key import ReportKey
from ape_infra.config.secrets import AGENT_TOKEN, SECRETS, TARGET_CREDENTIALS
from ape_infra.config.settings import Settings
from ape_infra.program.provider import docker_provider


def stack_config() -> dict[str, str]:
    """The project's own config of this stack: setting or secret -> text."""
    prefix = f"{pulumi.get_project()}:"
    return {k.removeprefix(prefix): v for k, v in CONFIG.get().items() if k.startswith(prefix)}


def model_key(settings: Settings, given: dict[str, str]) -> str:
    """The key of the model's provider; empty: none is set."""
    return given.get(key_secret(settings.model, [k for k, v in given.items() if v]), "")


def checked_settings(given: dict[str, str]) -> Settings:
    """The settings; before an update the machine is checked too. Raises RunError."""
    try:
        settings = parse_config(given)
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None
    if pulumi.runtime.is_dry_run():
        return settings
    # Not at the top: a preview needs no Docker.
    from ape_infra.checks import preflight

    try:
        preflight.check(
            settings,
            pulumi.get_project(),
            pulumi.get_stack(),
            api_key=model_key(settings, given),
            on_warning=pulumi.log.warn,
        )
    except preflight.PreflightError as error:
        raise pulumi.RunError(str(error)) from None
    return settings


async def main() -> dict[str, pulumi.Input[object]]:
    project, stack = pulumi.get_project(), pulumi.get_stack()
    config, given = pulumi.Config(project), stack_config()
    settings = checked_settings(given)
    images = settings.images
    provider = docker_provider(
        settings.platform.docker_host, registry=images.registry if images.registry_login else ""
    )
    # In a thread, so that the loop registers the provider with the engine meanwhile.
    await asyncio.to_thread(import_module, "ape_infra.program.stack")
    from ape_infra.program.stack import declare

    try:
        outputs = declare(
            settings,
            project=project,
            stack=stack,
            root=current().root,
            secrets={name: config.require_secret(name) for name in SECRETS if given.get(name)},
            agent_token=agent_token(
                given.get(AGENT_TOKEN, ""), model_key(settings, given), project, stack
            ),
            name_key=NameKey.of(
                given.get(AGENT_TOKEN) or model_key(settings, given),
                passphrase(),
                project,
                stack,
            ),
            report_key=ReportKey.of(
                given.get(AGENT_TOKEN, ""),
                model_key(settings, given),
                passphrase(),
                project,
                stack,
            ),
            credentials=Credentials.of(given.get(TARGET_CREDENTIALS)),
            opts=pulumi.ResourceOptions(providers={"docker": provider}),
        )
    except (SettingsError, ServiceSettingsError) as error:
        raise pulumi.RunError(str(error)) from None
    # One iteration of the loop, in which the registrations begin. Without it the SDK finds none in
    # flight, and waits for any one of all the outputs again and again (docs/facts.md).
    await asyncio.sleep(0)
    return outputs


def run() -> None:
    """Run the program; called once by a project's `__main__.py`."""
    sdk_patches.apply(pulumi.log.warn)
    pulumi.run(main)
