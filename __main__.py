"""The Pulumi program: read the stack's settings, declare the stack."""

import asyncio
from pathlib import Path

import pulumi
from pulumi.runtime.config import CONFIG

from ape_infra import preflight
from ape_infra.agent_token import agent_token
from ape_infra.settings import (
    AGENT_TOKEN,
    CEREBRAS_API_KEY,
    SECRETS,
    SettingsError,
    parse_config,
)
from ape_infra.stack import declare

root = Path(__file__).resolve().parent
project, stack = pulumi.get_project(), pulumi.get_stack()
config = pulumi.Config(project)
prefix = f"{project}:"
given = {k.removeprefix(prefix): v for k, v in CONFIG.get().items() if k.startswith(prefix)}


async def main() -> dict[str, pulumi.Input[object]]:
    try:
        settings = parse_config(given)
        if not pulumi.runtime.is_dry_run():
            preflight.check(settings, project, stack, tell=pulumi.log.warn)
        outputs = declare(
            settings,
            project=project,
            stack=stack,
            root=root,
            secrets={name: config.require_secret(name) for name in SECRETS if given.get(name)},
            agent_token=agent_token(
                given.get(AGENT_TOKEN, ""), given.get(CEREBRAS_API_KEY, ""), project, stack
            ),
        )
    except (SettingsError, preflight.PreflightError) as error:
        raise pulumi.RunError(str(error)) from None
    # One turn of the loop, in which the registrations begin. Without it the SDK finds none under
    # way, and waits for any one of all the outputs again and again (docs/facts.md).
    await asyncio.sleep(0)
    return outputs


pulumi.run(main)
