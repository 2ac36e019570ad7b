"""The figures of a run against the target's own log, and against Locust.

Agents hold sessions of four requests with pauses. Then Locust's users hold the same ones, as many
per second, for as long. The target takes the same times for both, in the same order. Rules:

- The run counts exactly the requests of the target's log, and Locust as many within 5 %.
- The mean of the run is that of the log and the way between gateway and target: at most 2 ms more.
- With the way taken off, p50, p95 and p99 of the run are within 2 % of those of the log.
- Those of all requests are within 5 % of Locust's, which has a way of its own.

Shown only: p99 of an endpoint, since of 1,000 requests ten are beyond it; and the endpoints of
Locust, whose first request after a pause takes some ms longer than the target says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.load.target import ENDPOINTS, Plan
from bench.load.world import QUANTILES, World, document, percentile, together, world

LOCUST = "locust==2.47.0"
AGENTS, THINK_SECONDS = 60, 1.0
OF_LOG, OF_LOCUST, WAY_SECONDS = 0.02, 0.05, 0.002


def locust_of(given: Path | None, folder: Path) -> Path:
    """The command; an environment is made for it if none is given."""
    if given is not None:
        return given
    made = folder / "locust"
    venv.create(made, with_pip=True)
    pip = [str(made / "bin/pip"), "install", "--quiet", LOCUST]
    subprocess.run(pip, check=True, stdout=sys.stderr)
    return made / "bin/locust"


def locust(command: Path, made: World, rate: float, seconds: float, folder: Path) -> dict[str, Any]:
    """The seconds of all requests by endpoint. `rate`: sessions per second of all users."""
    times = folder / "times.json"
    arguments = ["-f", str(Path(__file__).with_name("locustfile.py")), "--headless"]
    arguments += ["--only-summary", "--loglevel", "WARNING", "--host", made.target.url]
    arguments += ["-u", str(AGENTS), "-r", str(AGENTS), "--run-time", f"{seconds:.0f}s"]
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env |= {"LOAD_RATE": str(rate / AGENTS), "LOAD_TIMES": str(times)}
    done = subprocess.run(
        [str(command), *arguments], env=env, capture_output=True, text=True, timeout=seconds + 60
    )
    if not times.exists():
        raise SystemExit(f"Locust failed: {done.stderr[-1000:]}")
    found: dict[str, Any] = json.loads(times.read_text())
    return found


def row(run: dict[str, Any], log: list[float], other: list[float]) -> dict[str, Any]:
    """`run`: the statistics of the summary."""
    found: dict[str, Any] = {"count": [run["count"], len(log), len(other)]}
    found["way"] = run["mean"] - fmean(log)
    for name, q in QUANTILES.items():
        found[name] = [run[name], percentile(log, q), percentile(other, q)]
    return found


def measure(seconds: float, command: Path, folder: Path) -> dict[str, Any]:
    """Endpoint, or `all`, -> count and percentiles: of the run, the target's log, and Locust."""
    plan = Plan(median=0.02)
    with world(folder, AGENTS, think=THINK_SECONDS) as made:
        made.target.begin(plan)
        run = made.run(document("closed", seconds, AGENTS, seed="1"))
        # Agents ask for orders meanwhile, and no more.
        made.target.begin(plan)
        rate = run.summary.requests.count / seconds / len(ENDPOINTS)
        times = locust(command, made, rate, seconds, folder)
        seen = made.target.log()
    parts = {each.endpoint: each.duration.model_dump() for each in run.summary.endpoints}
    whole = run.summary.requests.duration.model_dump()
    found = {"all": row(whole, together(run.log), together(times))}
    found |= {name: row(parts[name], run.log[name], times[name]) for name in sorted(run.log)}
    return {
        "rows": found,
        "requests": run.summary.requests.count,
        "failed": run.summary.requests.failed + run.summary.sessions.failed,
        "locust_log": sum(map(len, seen.values())),
        "locust_failed": len(times.get("failed", ())),
    }


def broken(found: dict[str, Any]) -> list[str]:
    """The rules that do not hold."""
    missed = []
    if found["failed"] or found["locust_failed"]:
        missed.append("requests or sessions failed")
    if found["requests"] != found["rows"]["all"]["count"][1]:
        missed.append("the run and the target's log count different requests")
    for name, each in found["rows"].items():
        run, log, other = each["count"]
        if run != log:
            missed.append(f"{name}: {run} requests in the run, {log} in the log")
        if name == "all" and abs(other / run - 1) > OF_LOCUST:
            missed.append(f"{name}: {run} requests in the run, {other} of Locust")
        if not 0 <= each["way"] <= WAY_SECONDS:
            missed.append(f"{name}: the way is {1000 * each['way']:.1f} ms")
        for q in QUANTILES if name == "all" else ("p50", "p95"):
            run, log, other = each[q]
            if abs(run - each["way"] - log) > OF_LOG * log:
                off = (run - each["way"]) / log - 1
                missed.append(f"{name}: {q} of the run and the log differ by {off:+.1%}")
            if name == "all" and abs(run / other - 1) > OF_LOCUST:
                off = run / other - 1
                missed.append(f"{name}: {q} of the run and of Locust differ by {off:+.1%}")
    return missed


def text(found: dict[str, Any]) -> str:
    lines = [
        f"{'ms: run, target, Locust':20}{'count':>18}" + "".join(f"{q:>21}" for q in QUANTILES)
    ]
    for name, each in found["rows"].items():
        counts = " ".join(f"{count:5d}" for count in each["count"])
        shown = (" ".join(f"{1000 * value:6.1f}" for value in each[q]) for q in QUANTILES)
        lines.append(f"{name:20}{counts:>18}" + "".join(f"{part:>21}" for part in shown))
    way = 1000 * found["rows"]["all"]["way"]
    return "\n".join([*lines, f"way between gateway and target: {way:.2f} ms"])
