"""`python -m ape_agent`: one agent, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from ape_common import env, logs

from ape_agent.agent import Agent
from ape_agent.settings import from_env

_log = logging.getLogger(__name__)


async def _live(agent: Agent) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    await agent.run()


def main() -> None:
    logs.setup("agent")
    try:
        settings = from_env()
    except env.EnvError as problem:
        _log.error("cannot start: %s", problem)
        sys.exit(2)
    _log.info("started", extra=logs.fields(agent=settings.name))

    async def live() -> None:
        await _live(Agent(settings))

    asyncio.run(live())
    _log.info("stopped")


if __name__ == "__main__":
    main()
