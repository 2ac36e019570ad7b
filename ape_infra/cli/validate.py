"""`ape-load validate`: check settings, gateway config, target, API key and machine."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from ape_infra.automation.engine import PulumiEngine
from ape_infra.checks import openapi, preflight
from ape_infra.checks import settings as settings_checks
from ape_infra.checks.check import Check, failed
from ape_infra.checks.facts import Facts
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
from ape_infra.cli.plan import print_checks
from ape_infra.config.errors import SettingsError
from ape_infra.config.project import current
from ape_infra.runs import preparation


def checks(engine: PulumiEngine) -> Iterator[Check]:
    try:
        settings = engine.settings()
    except SettingsError as error:
        yield from settings_checks.broken("settings", error)
        return
    yield Check("settings", "ok", f"{settings.plan(engine.name).summary}.")
    yield from openapi.fetch(settings, current().root)
    scenario = list(settings_checks.scenario(settings, current().root))
    yield from scenario
    signing = list(settings_checks.sign_in(settings, current().root, engine.credentials))
    signs_in = any(check.status == "ok" for check in signing)
    yield from openapi.report(settings, current().root, signs_in=signs_in)
    yield from signing
    yield from settings_checks.model_files(settings, current().root)
    if not failed(scenario):
        yield from preparation.checks(settings, current().root)
    facts = Facts(
        settings,
        current().name,
        engine.name,
        outputs=engine.outputs(),
        api_key=engine.model_key(settings),
    )
    yield from preflight.run(preflight.VALIDATE, facts)


@app.command()
def validate(stack: StackName = "dev", json: AsJson = False) -> None:
    """Check settings, gateway config, target, API key and machine; exit code 1 if one fails."""

    def work() -> int:
        found = list(checks(PulumiEngine(stack, log)))
        failures = failed(found)

        def text(to: Console) -> None:
            print_checks(to, found)
            summary = f"{len(failures)} of {len(found)} checks failed."
            to.print(summary if failures else "All checks passed.")

        data = {"passed": not failures, "checks": [check.data() for check in found]}
        show(data, as_json=json, text=text)
        return EXIT_FAILED if failures else EXIT_OK

    run_command(work)
