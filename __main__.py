"""The Pulumi program: read the stack's settings, declare the stack."""

import asyncio
import atexit
import gc
from importlib import import_module
from pathlib import Path

import pulumi
from pulumi.runtime import resource as registration
from pulumi.runtime.config import CONFIG
from pulumi.runtime.proto.source_pb2 import StackTrace

from ape_infra.agent_token import agent_token
from ape_infra.provider import docker_provider
from ape_infra.settings import (
    AGENT_TOKEN,
    CEREBRAS_API_KEY,
    SECRETS,
    Settings,
    SettingsError,
    parse_config,
)

# What costs time and is of no use to a program that ends after its work (docs/facts.md): the SDK's
# four debug messages a resource, each of which waits for the engine; the stack of the program at
# each registration, which the engine writes with the state at every step; and the garbage
# collector, which also looks at everything once more at the exit.
pulumi.log.debug = lambda *_, **__: None
registration._get_stack_trace = StackTrace
gc.disable()
atexit.register(gc.freeze)

root = Path(__file__).resolve().parent
project, stack = pulumi.get_project(), pulumi.get_stack()
config = pulumi.Config(project)
prefix = f"{project}:"
given = {k.removeprefix(prefix): v for k, v in CONFIG.get().items() if k.startswith(prefix)}


def checked() -> Settings:
    """The settings. Raises RunError with what stands in the way."""
    try:
        settings = parse_config(given)
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None
    if pulumi.runtime.is_dry_run():
        return settings
    # Not at the top: a preview needs no Docker.
    from ape_infra import preflight

    try:
        preflight.check(settings, project, stack, tell=pulumi.log.warn)
    except preflight.PreflightError as error:
        raise pulumi.RunError(str(error)) from None
    return settings


async def main() -> dict[str, pulumi.Input[object]]:
    settings = checked()
    provider = docker_provider(settings.docker_host)
    # In a thread, so that the loop goes on and the engine hears of the provider.
    await asyncio.to_thread(import_module, "ape_infra.stack")
    from ape_infra.stack import declare

    try:
        outputs = declare(
            settings,
            provider=provider,
            project=project,
            stack=stack,
            root=root,
            secrets={name: config.require_secret(name) for name in SECRETS if given.get(name)},
            agent_token=agent_token(
                given.get(AGENT_TOKEN, ""), given.get(CEREBRAS_API_KEY, ""), project, stack
            ),
        )
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None
    # One turn of the loop, in which the registrations begin. Without it the SDK finds none under
    # way, and waits for any one of all the outputs again and again (docs/facts.md).
    await asyncio.sleep(0)
    return outputs


pulumi.run(main)
