"""The stack as one component, for another Pulumi program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pulumi

from ape_infra.config import rules
from ape_infra.config.agent_token import agent_token
from ape_infra.config.credentials import Credentials
from ape_infra.config.errors import SettingsError
from ape_infra.config.name_key import NameKey, passphrase
from ape_infra.config.provider import key_secret
from ape_infra.config.report_key import ReportKey
from ape_infra.config.secrets import (
    AGENT_TOKEN,
    CEREBRAS_API_KEY,
    MODEL_API_KEY,
    SECRETS,
    TARGET_CREDENTIALS,
)
from ape_infra.config.settings import Settings
from ape_infra.program.provider import docker_provider
from ape_infra.program.stack import declare

TOKEN = "ape:engine:AgenticProtocolEngine"


@dataclass(frozen=True)
class EngineArgs:
    """The arguments of a load test.

    `settings` are in groups, such as `Settings(fleet=FleetSettings(agents=20))`. `secrets` have
    the names of the stack config, such as modelApiKey. `root` is the folder of the Pulumi
    project; paths in the settings are relative to it.

    The agents present `agent_token` to the proxy: 16 characters or more, required with a key of
    the model. Empty: derived from the names of the project and the stack.
    """

    settings: Settings = field(default_factory=Settings)
    secrets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    agent_token: str = ""
    root: Path = field(default_factory=Path.cwd)


class AgenticProtocolEngine(pulumi.ComponentResource):
    """A load test by AI agents: the resources of this project's own stack, below one component.

    A stack has one engine at most, because the names of its containers start with the names of
    the project and the stack. Give a Docker provider in `opts.providers`, or it creates one.

    `outputs` are those of `pulumi stack output`, such as endpoints. Raises SettingsError.
    """

    outputs: dict[str, pulumi.Input[object]]

    def __init__(
        self, name: str, args: EngineArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(TOKEN, name, None, opts)
        check(args)
        project, stack = pulumi.get_project(), pulumi.get_stack()
        below = pulumi.ResourceOptions(parent=self)
        if not (opts and (opts.provider or opts.providers)):
            host = args.settings.platform.docker_host
            below.providers = {"docker": docker_provider(host, pulumi.ResourceOptions(parent=self))}
        self.outputs = declare(
            args.settings,
            project=project,
            stack=stack,
            root=args.root,
            secrets={name: pulumi.Output.secret(value) for name, value in args.secrets.items()},
            agent_token=agent_token(args.agent_token, "", project, stack),
            name_key=NameKey.of(args.agent_token, passphrase(), project, stack),
            report_key=ReportKey.of(
                args.agent_token, plain_model_key(args), passphrase(), project, stack
            ),
            credentials=Credentials.of(args.secrets.get(TARGET_CREDENTIALS)),
            opts=below,
        )
        self.register_outputs(self.outputs)


def plain_model_key(args: EngineArgs) -> str:
    """The key of the model where the program knows it; empty: it is an output, or none is set."""
    key = args.secrets.get(key_secret(args.settings.model, args.secrets), "")
    return key if isinstance(key, str) else ""


def check(args: EngineArgs) -> None:
    """Raises SettingsError with every broken rule of the arguments."""
    known = SECRETS.keys() - {AGENT_TOKEN}
    problems = rules.problems(args.settings, args.secrets.keys())
    problems += [
        (name, f"is not a secret of the engine. Use {', '.join(sorted(known))}.")
        for name in sorted(args.secrets.keys() - known)
    ]
    for name in (MODEL_API_KEY, CEREBRAS_API_KEY):
        if name in args.secrets and not args.agent_token:
            problems.append((AGENT_TOKEN, f"is required with {name}. Set agent_token."))
    if problems:
        raise SettingsError.of(problems)
