"""`ape-load validate`: settings, gateway config, target and key, as a check list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import requests
from rich.console import Console

from ape_infra.automation.engine import PulumiEngine
from ape_infra.checks import checklist, preflight
from ape_infra.checks.checklist import Item
from ape_infra.cli.common import (
    EXIT_FAILED,
    EXIT_OK,
    AsJson,
    StackName,
    app,
    log,
    run_command,
    show,
)
from ape_infra.cli.plan import print_items
from ape_infra.config.errors import SettingsError
from ape_infra.config.files import Scenario, gateway_config
from ape_infra.config.project import config_key, current
from ape_infra.config.secrets import CEREBRAS_API_KEY
from ape_infra.config.settings import Settings

KEY_SECONDS = 10.0


def key(settings: Settings, value: str) -> Item:
    """Whether the model takes the key. Never shows it."""
    if settings.model.kind == "offline":
        return Item("key", "ok", "the offline model needs none.")
    url = settings.model.base_url.rstrip("/") + "/models"
    try:
        answer = requests.get(
            url, headers={"Authorization": f"Bearer {value}"}, timeout=KEY_SECONDS
        )
    except requests.RequestException as error:
        return Item(
            "key",
            "fail",
            f"{url} does not answer ({type(error).__name__}).",
            f"Check {config_key('modelBaseUrl')} and the network.",
        )
    if answer.status_code in (401, 403):
        return Item(
            "key",
            "fail",
            f"{url} refuses it ({answer.status_code}).",
            f"Set another: pulumi config set --secret {config_key(CEREBRAS_API_KEY)}",
        )
    if not answer.ok:
        return Item("key", "fail", f"{url} answers {answer.status_code}.", "Try again later.")
    return Item("key", "ok", f"{url} takes it.")


def items(engine: PulumiEngine) -> Iterator[Item]:
    try:
        settings = engine.settings()
    except SettingsError as error:
        for line in error.lines:
            yield Item("settings", "fail", line)
        return
    yield Item("settings", "ok", f"{settings.plan(engine.name).summary}.")
    try:
        _, api = gateway_config(settings, current().root)
        scenario = Scenario.of(settings, current().root, api)
    except SettingsError as error:
        for line in error.lines:
            yield Item("gateway", "fail", line)
    else:
        count = len(scenario.endpoints)
        yield Item("gateway", "ok", f"route {api}, {count} endpoints, goal: {scenario.goal}")
    outputs = engine.outputs()
    if not settings.target.is_demo:
        yield checklist.target(settings.target.url, "the target")
    elif base := (outputs.get("endpoints") or {}).get("target"):
        yield checklist.target(f"{base}/health", "the demo shop")
    else:
        yield Item("target", "ok", "the demo shop, part of the stack.")
    found = engine.stack.get_all_config().get(f"{config_key(CEREBRAS_API_KEY)}")
    yield key(settings, found.value if found else "")
    try:
        preflight.check(settings, current().name, engine.name, on_warning=log)
    except preflight.PreflightError as error:
        for line in str(error).splitlines():
            yield Item("machine", "fail", line)
    else:
        yield Item("machine", "ok", "Docker answers, and there is room.")


@app.command()
def validate(stack: StackName = "dev", json: AsJson = False) -> None:
    """Check settings, gateway config, target, key and machine; exit code 1 if one fails."""

    def work() -> int:
        found = list(items(PulumiEngine(stack, log)))
        failed = [item for item in found if item.state == "fail"]

        def text(to: Console) -> None:
            print_items(to, found)
            to.print(f"{len(failed)} of {len(found)} checks failed." if failed else "All passed.")

        data = {"passed": not failed, "checks": [asdict(item) for item in found]}
        show(data, as_json=json, text=text)
        return EXIT_FAILED if failed else EXIT_OK

    run_command(work)
