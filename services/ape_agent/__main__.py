"""`python -m ape_agent`: the agents of one container, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from ape_agent.host import Host
from ape_agent.settings import Settings, from_env
from ape_contracts import metrics
from ape_service import env, logs

_log = logging.getLogger(__name__)


async def _live(settings: Settings) -> None:
    host = Host(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.stop)
    await host.run()


def main() -> None:
    logs.setup("agent")
    try:
        settings = from_env()
    except env.EnvError as problem:
        _log.error("cannot start: %s", problem)
        sys.exit(2)
    _log.info("started", extra=logs.fields(agents=[metrics.agent(s) for s in settings.slots]))
    asyncio.run(_live(settings))
    _log.info("stopped")


if __name__ == "__main__":
    main()
