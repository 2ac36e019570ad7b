"""The gateway to the MCP inspector's command line, which npm has."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ape_contracts.service_settings import VARIABLE, DemoTargetSettings, GatewaySettings, encode

pytestmark = pytest.mark.engine
SERVICES = Path(__file__).resolve().parents[2] / "services"
INSPECTOR = "@modelcontextprotocol/inspector@2.12.0"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[str]:
    """The demo shop behind the gateway, as processes; the gateway's URL."""
    target, port = free_port(), free_port()
    config = json.loads((SERVICES / "ape_demo_target" / "gateway.json").read_text())
    config["routes"]["shop"]["base_url"] = f"http://127.0.0.1:{target}"
    file = tmp_path / "gateway.json"
    file.write_text(json.dumps(config))
    told = {
        "ape_demo_target": DemoTargetSettings(bind="127.0.0.1", port=target),
        "ape_gateway": GatewaySettings(bind="127.0.0.1", port=port, config_file=str(file)),
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-m", module], env={**os.environ, VARIABLE: encode(settings)}
        )
        for module, settings in told.items()
    ]
    for at in (target, port):
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", at), 1).close()
                break
            except OSError:
                time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/mcp"
    for process in running:
        process.terminate()
    assert [process.wait(20) for process in running] == [0, 0]


def test_the_inspector_lists_and_calls(gateway: str, tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not here; the inspector is a package of npm")
    npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", "."]
    subprocess.run([*npm, INSPECTOR], cwd=tmp_path, check=True, timeout=300)

    def inspect(*arguments: str) -> dict[str, Any]:
        command = ["node_modules/.bin/mcp-inspector", "--cli", gateway, "--transport", "http"]
        ran = subprocess.run(
            [*command, *arguments], cwd=tmp_path, check=True, timeout=60, stdout=subprocess.PIPE
        )
        found: dict[str, Any] = json.loads(ran.stdout)
        return found

    tools = {tool["name"]: tool for tool in inspect("--method", "tools/list")["tools"]}
    assert tools["shop_get_products_id"]["inputSchema"]["required"] == ["id"]
    called = inspect(
        *("--method", "tools/call", "--tool-name", "shop_get_products_id", "--tool-arg", "id=1")
    )
    assert not called["isError"]
    assert called["structuredContent"]["status_code"] in (200, 401)
