"""Runs of the same seed, compared: twice of the same target, and once of one that is 30 % slower.

Each run draws service times of its own, as a real target's are. Tries are held on several stacks
at a time. Rules, of a number of tries:

- The slower target is found in at least 19 of 20: p95 of the requests is longer, beyond noise.
- Differences of the same target are found in at most as many as chance explains: the comparison
  allows for one in 20; more than expected in 1 of 100 benches are too many.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ape_infra.runs.compare import LEVEL, Difference, differences
from bench.load.target import Plan
from bench.load.world import Run, World, document, world

AGENTS, THINK_SECONDS = 12, 0.4
WARM_UP_SECONDS, INTERVAL_SECONDS = 4.0, 2.0
SLOWER, FOUND_OF_20, CHANCE = 1.3, 19, 0.01
FINDS = "http_req_duration.p95"


def one_run(made: World, seconds: float, seed: str, factor: float) -> Run:
    made.target.begin(Plan(seed=seed, factor=factor, stratified=False))
    whole = WARM_UP_SECONDS + seconds
    given = document("closed", whole, AGENTS, seed="1", warm_up_seconds=WARM_UP_SECONDS)
    return made.run(given, interval=INTERVAL_SECONDS)


def one_try(made: World, seconds: float, number: int) -> dict[str, Any]:
    """What is found of two runs of the same target, and of a slower one, which is first or last."""
    factors = (1.0, 1.0, SLOWER) if number % 2 else (SLOWER, 1.0, 1.0)
    runs = [one_run(made, seconds, f"{number} {at}", factor) for at, factor in enumerate(factors)]
    first, second, slower = (
        run.measurements for _, run in sorted(zip(factors, runs, strict=True), key=lambda x: x[0])
    )
    compared = differences(second, slower)
    return {
        "same": _significant(differences(first, second)),
        "slower": _significant(compared),
        "change": _change(compared),
        "requests": [run.summary.requests.count for run in runs],
    }


def _significant(found: Sequence[Difference]) -> list[str]:
    return [f"{each.name} {each.change:+.1f} %" for each in found if each.significant]


def _change(found: Sequence[Difference]) -> dict[str, float | None]:
    of = {each.name: each for each in found}[FINDS]
    return {"change": of.change, "low": of.low, "high": of.high}


def measure(tries: int, at_once: int, seconds: float, folder: Path) -> dict[str, Any]:
    stacks = min(at_once, tries)
    with ExitStack() as opened:
        worlds = [
            opened.enter_context(world(folder / str(number), AGENTS, think=THINK_SECONDS))
            for number in range(stacks)
        ]

        def those_of(number: int) -> list[dict[str, Any]]:
            time.sleep(number / stacks)
            own = range(number, tries, stacks)
            return [one_try(worlds[number], seconds, each) for each in own]

        with ThreadPoolExecutor(stacks) as pool:
            found = [each for those in pool.map(those_of, range(stacks)) for each in those]
    return {"seconds": seconds, "tries": found}


def most_by_chance(tries: int) -> int:
    """More tries than this find a difference in fewer than CHANCE of all benches."""
    left = 1.0
    for number in range(tries + 1):
        left -= math.comb(tries, number) * LEVEL**number * (1 - LEVEL) ** (tries - number)
        if left < CHANCE:
            return number
    return tries


def counts(found: dict[str, Any]) -> tuple[int, int, int]:
    """(tries, those that found the slower target, those that found a difference of the same)."""
    tries = found["tries"]
    slower = sum(any(name.startswith(f"{FINDS} +") for name in each["slower"]) for each in tries)
    return len(tries), slower, sum(bool(each["same"]) for each in tries)


def broken(found: dict[str, Any]) -> list[str]:
    """The rules that do not hold."""
    tries, slower, same = counts(found)
    missed = []
    if slower * 20 < FOUND_OF_20 * tries:
        missed.append(f"the slower target was found in {slower} of {tries} tries")
    if same > most_by_chance(tries):
        missed.append(f"{same} of {tries} tries found a difference of the same target")
    return missed


def text(found: dict[str, Any]) -> str:
    tries, slower, same = counts(found)
    lines = [
        f"tries: {tries}, with runs of {found['seconds']:.0f} s",
        f"{SLOWER - 1:.0%} slower, found: {slower}",
        f"the same, a difference found: {same} (at most {most_by_chance(tries)} by chance)",
    ]
    changes = [each["change"] for each in found["tries"]]
    known = [each for each in changes if each["low"] is not None]
    if known:
        low, high = (min(each["low"] for each in known), max(each["high"] for each in known))
        mean = sum(each["change"] for each in known) / len(known)
        lines.append(
            f"change of p95: {mean:+.1f} % on average, intervals {low:+.1f} to {high:+.1f}"
        )
    requests = [count for each in found["tries"] for count in each["requests"]]
    lines.append(f"requests per run: {min(requests)} to {max(requests)}")
    lines += [f"  the same: {', '.join(each['same'])}" for each in found["tries"] if each["same"]]
    return "\n".join(lines)
