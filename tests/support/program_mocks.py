"""What the whole program declares, under mocks."""

import asyncio
import json
import os
import runpy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pulumi.runtime import mocks, set_all_config
from pulumi.runtime.settings import set_root_resource
from pulumi.runtime.stack import run_in_stack

from ape_infra.config.secrets import GRAFANA_PASSWORD, MODEL_API_KEY, SECRETS

ROOT = Path(__file__).resolve().parents[2]
KEY = "csk-not-a-real-key"
# The committed settings of the stacks. The files at the root are the user's own to change.
STACKS: dict[str, dict[str, str]] = {
    "dev": {"agents": "5"},
    "prod": {
        "production": "true",
        "maxTokens": "10000000",
        "agents": "60",
        "model": "provider",
        "provider": "cerebras",
        "observability": "full",
        "networkPool": "10.214.0.0/16",
        "logMaxSize": "10m",
        "logMaxFiles": "5",
        "logCompress": "true",
        "gatewayPort": "8180",
        "proxyPort": "8181",
        "targetPort": "8182",
        "prometheusPort": "9190",
        "alertmanagerPort": "9193",
        "grafanaPort": "3001",
        "lokiPort": "3101",
        "victorialogsPort": "9528",
        "monitorPort": "9191",
    },
}
PROD = {MODEL_API_KEY: KEY, GRAFANA_PASSWORD: "not-a-real-password"}


class Registered(NamedTuple):
    type: str
    name: str
    inputs: dict[str, Any]


class Recorder(mocks.Mocks):
    def __init__(self) -> None:
        self.resources: list[Registered] = []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        self.resources.append(Registered(args.typ, args.name, args.inputs))
        return f"{args.name}-id", args.inputs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], None]:
        return {}, None

    def of(self, kind: str) -> list[Registered]:
        return [r for r in self.resources if r.type.endswith(f":{kind}")]

    def agents(self) -> list[Registered]:
        return [r for r in self.of("Container") if r.name.startswith("agent-")]


def declared(
    root: Path, stack: str, config: Mapping[str, Any], secrets: Collection[str] = ()
) -> Recorder:
    """Run `__main__.py` of `root` as the engine does for a preview of `stack`, and record it.

    `config` is over the defaults of Pulumi.yaml; `secrets` are the settings that are secret.
    """
    defaults = yaml.safe_load((root / "Pulumi.yaml").read_text())["config"]
    values = {name: entry["default"] for name, entry in defaults.items()} | dict(config)
    recorder = Recorder()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    mocks.set_mocks(recorder, project="ape", stack=stack, preview=True)
    set_all_config(
        {f"ape:{k}": v if isinstance(v, str) else json.dumps(v) for k, v in values.items()},
        [f"ape:{name}" for name in secrets],
    )
    # As the language host runs it, which makes the stack itself.
    set_root_resource(None)  # type: ignore[arg-type]

    def program() -> None:
        runpy.run_path("__main__.py", run_name="__main__")

    before = Path.cwd()
    os.chdir(root)
    try:
        loop.run_until_complete(run_in_stack(program))
    finally:
        os.chdir(before)
    return recorder


def run(stack: str, **config: Any) -> Recorder:
    """What `stack` declares with `config` over its committed settings."""
    return declared(ROOT, stack, STACKS[stack] | config, SECRETS)
