"""`ape-load run` with real agents, the gateway, the proxy and the target, whose counts it has."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ape_contracts.report_token import control
from ape_infra.runs import store
from tests.support.live import ROOT
from tests.support.run_world import KEY, RunWorld, run_world

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio]


async def ape_load_run(
    world: RunWorld, results: Path, *arguments: str
) -> tuple[int, dict[str, Any], str]:
    """(exit code, summary, stderr)."""
    gateway = str(world.client._base_url).rstrip("/")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.run_command", gateway),
        *(world.host._settings.proxy_url, control(KEY)),
        *("--results", str(results), "--json", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    code = process.returncode
    assert code is not None
    return code, json.loads(out) if out else {}, err.decode()


@pytest.mark.parametrize("load", [("--agents", "2"), ("--rate", "4")])
async def test_counts_of_a_run_are_those_of_the_target(
    tmp_path: Path, load: tuple[str, str]
) -> None:
    async with run_world(tmp_path, agents=2, think_time_seconds=0.02) as world:
        code, found, err = await ape_load_run(
            world, tmp_path / "results", "--duration", "8s", *load, "--seed", "1"
        )
        assert code == 0, err
        asked = len(world.target.log)
        orders = len(world.target.of("POST", "/checkout"))
    assert found["requests"]["count"] == asked
    sessions = found["sessions"]
    assert sessions["started"] == sessions["succeeded"] == orders > 10
    counts = {each["endpoint"]: each["count"] for each in found["endpoints"]}
    assert counts["POST /checkout"] == counts["GET /products/{id}"] == orders
    # A completion for each step; agents stream them.
    use = found["model_use"]
    assert use["completions"] == use["ttft"]["count"] == asked
    stored = store.load_all(tmp_path / "results")[0][0]
    assert len((stored.path / store.SESSIONS).read_text().splitlines()) == 1 + orders
    page = (stored.path / store.REPORT).read_text()
    assert "POST /checkout" in page


async def test_failed_sessions_leave_their_transcripts(tmp_path: Path) -> None:
    success = {"method": "POST", "path": "/never", "status": 201}
    async with run_world(tmp_path, agents=2, success=success) as world:
        code, found, err = await ape_load_run(
            world,
            tmp_path / "results",
            *("--duration", "6s", "--threshold", "session_success >= 0.5"),
        )
    assert code == 5, err
    assert found["state"] == "failed"
    assert found["sessions"]["succeeded"] == 0
    stored = store.load_all(tmp_path / "results")[0][0]
    transcripts = stored.transcripts()
    assert 1 <= len(transcripts) <= 3 * len(found["sessions"]["reasons"])
    assert all(each["messages"] for each in transcripts)
