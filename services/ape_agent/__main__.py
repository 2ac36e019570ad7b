"""`python -m ape_agent`: the agents of one container, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from ape_agent.host import Host
from ape_contracts import metrics
from ape_contracts.service_settings import REPORT_TOKEN, AgentSettings, ServiceSettingsError
from ape_service import logs
from ape_service.settings import load, read_secret

_log = logging.getLogger(__name__)


async def _live(settings: AgentSettings, token: str, report_token: str) -> None:
    host = Host(settings, token, report_token)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.stop)
    await host.run()


def main() -> None:
    logs.setup("agent")
    try:
        settings = load(AgentSettings)
        token = read_secret("token_file", settings.token_file)
        own = read_secret("report_token_file", settings.report_token_file)
        report_token = own or os.environ.get(REPORT_TOKEN, "")
    except ServiceSettingsError as error:
        _log.error("cannot start: %s", error)
        sys.exit(2)
    _log.info("started", extra=logs.fields(agents=[metrics.agent(s) for s in settings.slots]))
    asyncio.run(_live(settings, token, report_token))
    _log.info("stopped")


if __name__ == "__main__":
    main()
