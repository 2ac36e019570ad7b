"""`ape-load run` as a process, on a stack that is only a gateway and a proxy of a test.

python -m tests.support.run_command GATEWAY PROXY TOKEN [ARGUMENT...]
"""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

from ape_infra.automation.engine import RunTokens
from ape_infra.cli import app
from ape_infra.config.parsing import parse
from ape_infra.config.settings import Settings
from ape_infra.reporting.summary import Summary

SETTINGS = {"agents": "2", "gracefulStop": "2s"}


class Engine:
    """A stack that is up. `reaches`: the URLs of gateway and proxy, and the control token."""

    def __init__(self, reaches: list[str]) -> None:
        self.name, self._reaches = "dev", reaches

    def settings(self, file: None = None, **values: str) -> Settings:
        return parse({**SETTINGS, **values})

    def outputs(self) -> dict[str, Any]:
        gateway, proxy, _ = self._reaches
        return {"agents": 2, "endpoints": {"gateway": gateway, "proxy": proxy}}

    def run_tokens(self, settings: Settings) -> RunTokens:
        return RunTokens(self._reaches[2], "agents-token")


def main(reaches: list[str], arguments: list[str]) -> None:
    healthy = Summary(
        endpoints=dict.fromkeys(("gateway", "proxy"), ("", True)), declared=2, healthy=2
    )
    container = {"Labels": {"ape.service": "gateway"}, "Image": "ape-gateway:1", "ImageID": "abc"}
    with (
        mock.patch("ape_infra.cli.run.PulumiEngine", return_value=Engine(reaches)),
        mock.patch("ape_infra.cli.run.client_of"),
        mock.patch("ape_infra.cli.run.measure", return_value=healthy),
        mock.patch("ape_infra.cli.run.containers", return_value=[container]),
    ):
        app(["run", *arguments], prog_name="ape-load")


if __name__ == "__main__":
    main(sys.argv[1:4], sys.argv[4:])
