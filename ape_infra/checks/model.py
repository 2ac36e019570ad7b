"""Checks of the model: whether it accepts the API key."""

from __future__ import annotations

from collections.abc import Iterator

import requests

from ape_infra.checks.check import Check
from ape_infra.checks.facts import Facts
from ape_infra.config.project import config_key
from ape_infra.config.secrets import CEREBRAS_API_KEY

TIMEOUT_SECONDS = 10.0


def api_key(facts: Facts) -> Iterator[Check]:
    """The model must accept the API key, which is never shown."""
    model = facts.settings.model
    if model.kind == "offline":
        yield Check("key", "ok", "the offline model needs no key.")
        return
    url = model.base_url.rstrip("/") + "/models"
    headers = {"Authorization": f"Bearer {facts.api_key}"}
    try:
        answer = requests.get(url, headers=headers, timeout=TIMEOUT_SECONDS)
    except requests.RequestException as error:
        observed = f"{url} does not answer ({type(error).__name__})."
        yield Check("key", "fail", observed, f"Check {config_key('modelBaseUrl')} and the network.")
        return
    if answer.status_code in (401, 403):
        yield Check(
            "key",
            "fail",
            f"{url} rejects the key ({answer.status_code}).",
            f"Set another: pulumi config set --secret {config_key(CEREBRAS_API_KEY)}",
        )
    elif not answer.ok:
        yield Check("key", "fail", f"{url} answers {answer.status_code}.", "Try again later.")
    else:
        yield Check("key", "ok", f"{url} accepts the key.")
