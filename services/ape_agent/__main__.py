"""`python -m ape_agent`: the agents of one container, until SIGTERM."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys

from ape_agent.host import Host
from ape_contracts import metrics
from ape_contracts.service_settings import REPORT_TOKEN, AgentSettings, ServiceSettingsError
from ape_contracts.sign_in import SignInError, users
from ape_service import logs
from ape_service.settings import load, problem, read_file, read_secret

_log = logging.getLogger(__name__)


async def _live(
    settings: AgentSettings, token: str, report_token: str, credentials: list[dict[str, str]]
) -> None:
    host = Host(settings, token, report_token, credentials)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.stop)
    await host.run()


def credentials_of(settings: AgentSettings) -> list[dict[str, str]]:
    """Those of each agent, for its sign-in: agent n has the n-th, and so on from the first.

    Raises ServiceSettingsError, whose message quotes nothing of the file.
    """
    if not settings.credentials_file:
        return []
    text = read_file("credentials_file", settings.credentials_file)
    try:
        found = users(json.loads(text))
    except (ValueError, RecursionError):
        raise problem("credentials_file", "is not JSON. Correct targetCredentials.") from None
    except SignInError as error:
        raise problem("credentials_file", f"{error} Correct targetCredentials.") from None
    return [found[(slot - 1) % len(found)] for slot in settings.slots]


def main() -> None:
    logs.setup("agent")
    try:
        settings = load(AgentSettings)
        token = read_secret("token_file", settings.token_file)
        own = read_secret("report_token_file", settings.report_token_file)
        report_token = own or os.environ.get(REPORT_TOKEN, "")
        credentials = credentials_of(settings)
    except ServiceSettingsError as error:
        _log.error("cannot start: %s", error)
        sys.exit(2)
    _log.info("started", extra=logs.fields(agents=[metrics.agent(s) for s in settings.slots]))
    asyncio.run(_live(settings, token, report_token, credentials))
    _log.info("stopped")


if __name__ == "__main__":
    main()
