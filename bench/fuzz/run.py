"""Fuzzing of the services' HTTP interfaces and of the parsers.

Needs no Docker. Requests and texts are nearly right: fields, numbers, nesting, heads, chunks and
encodings are changed, cut or repeated.

    .ape/run python -m bench.fuzz.run                          all, 10,000 requests each
    .ape/run python -m bench.fuzz.run gateway --seed 7         one of them
    .ape/run python -m bench.fuzz.run --requests 500 --json

Exit code 1 means one of:

- A service answered that it failed itself (500), or logged an error that it had not handled.
- A complete request, or GET /health, was not answered within 1 s.
- A process ended, or its memory grew by more than 20 % after the first requests.
- A parser raised another error than its own, or took more than 1 s.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from bench.fuzz import parsers
from bench.fuzz.client import health, tried
from bench.fuzz.requests import Request, Service, requests
from bench.fuzz.services import WAYS, running

IDLE_SECONDS = 0.02
MAX_GROWTH = 0.20
# Of all requests, at the beginning: caches, pools and the largest bodies.
WARM_UP = 0.2
SAMPLE_EVERY = 50
SHOWN_BYTES = 600
_UNHANDLED = re.compile(r"Traceback \(most|[Uu]nhandled|exception in callback|never retrieved")


class Samples:
    """Resident memory in MiB."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.found: list[float] = []

    def take(self) -> None:
        self.found.append(self._process.memory_info().rss / 2**20)

    def alive(self) -> bool:
        ended: bool = not self._process.is_running()
        return not ended and self._process.status() != psutil.STATUS_ZOMBIE


def generated(strategy: st.SearchStrategy[Any], count: int, number: int, each: Any) -> None:
    """Call `each` with `count` examples. Nothing is shrunk: `each` keeps what it finds."""

    @seed(number)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(example: Any) -> None:
        each(example)

    run()


def fuzz(service: Service, count: int, number: int) -> dict[str, Any]:
    """The figures of a service, and the first request for each broken rule."""
    samples, broke, first = Samples(service.pid), Counter[str](), dict[str, Request]()
    statuses = Counter[Any]()
    sent = 0

    def found(rule: str, request: Request) -> None:
        broke[rule] += 1
        first.setdefault(rule, request)

    def each(request: Request) -> None:
        nonlocal sent
        sent += 1
        if not samples.alive():
            broke["the process ended"] += 1
            return
        rule, status = tried(service, request, IDLE_SECONDS)
        statuses[status or "none"] += 1
        if rule:
            found(rule, request)
        if sent % SAMPLE_EVERY == 0:
            samples.take()
            if rule := health(service):
                found(rule, request)

    started = time.monotonic()
    generated(requests(service), count, number, each)
    samples.take()
    warm = max(samples.found[: max(1, int(len(samples.found) * WARM_UP))])
    last = samples.found[-1]
    growth = last / warm - 1
    if growth > MAX_GROWTH:
        broke["memory grew"] += 1
    if logged := len(_UNHANDLED.findall(Path(service.log).read_text("utf-8", "replace"))):
        broke["an unhandled error in the log"] = logged
    return {
        "requests": sent,
        "seconds": round(time.monotonic() - started, 1),
        "warm_mib": round(warm, 1),
        "last_mib": round(last, 1),
        "most_mib": round(max(samples.found), 1),
        "growth": round(growth, 3),
        "statuses": dict(statuses.most_common()),
        "broken": dict(broke),
        "examples": {rule: shown(request.raw) for rule, request in first.items()},
    }


def shown(raw: bytes) -> str:
    """The beginning of the bytes as Python writes them."""
    more = f" ... {len(raw)} bytes" if len(raw) > SHOWN_BYTES else ""
    return f"{raw[:SHOWN_BYTES]!r}{more}"


def measure(given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    found = {}
    for name in given.names:
        if name in WAYS:
            with (
                tempfile.TemporaryDirectory() as folder,
                running(name, Path(folder)) as service,
            ):
                found[name] = fuzz(service, given.requests, given.seed)
                if given.logs:
                    (given.logs / f"{name}.log").write_bytes(Path(service.log).read_bytes())
        else:
            found[name] = parse(name, given.requests, given.seed)
    return found


def parse(name: str, count: int, number: int) -> dict[str, Any]:
    """The figures of a parser, and the first text for each broken rule."""
    parser = parsers.PARSERS[name]
    samples, broke, first = Samples(os.getpid()), Counter[str](), dict[str, bytes]()

    def each(text: bytes) -> None:
        if rule := parsers.broken(parser, text):
            broke[rule] += 1
            first.setdefault(rule, text)
        samples.take()

    started = time.monotonic()
    generated(parser.texts, count, number, each)
    return {
        "requests": len(samples.found),
        "seconds": round(time.monotonic() - started, 1),
        "broken": dict(broke),
        "examples": {rule: shown(text) for rule, text in first.items()},
    }


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*WAYS, *parsers.PARSERS]
    options.add_argument("names", nargs="*", help=f"some of {', '.join(known)}")
    options.add_argument("--requests", type=int, default=10_000, help="to each of them")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--logs", type=Path, help="folder for the services' logs")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    if unknown := set(given.names) - set(known):
        options.error(f"unknown: {', '.join(sorted(unknown))}")
    given.names = given.names or known
    # Of the parsers and of the daemon's stand-in, which run here.
    logging.disable(logging.CRITICAL)
    found = measure(given)
    if given.json:
        print(json.dumps(found))
    else:
        print(f"{'':16} {'requests':>8} {'s':>6} {'warm':>6} {'last':>6} {'most':>6}  broken rules")
        for name, row in found.items():
            memory = " ".join(f"{row.get(f'{k}_mib', '-'):>6}" for k in ("warm", "last", "most"))
            rules = ", ".join(f"{rule}: {n}" for rule, n in row["broken"].items()) or "none"
            print(f"{name:16} {row['requests']:>8} {row['seconds']:>6} {memory}  {rules}")
        for name, row in found.items():
            if "statuses" in row:
                counts = ", ".join(f"{status}: {n}" for status, n in row["statuses"].items())
                print(f"{name:16} answers {counts}")
        for name, row in found.items():
            for rule, example in row["examples"].items():
                print(f"\n{name}: {rule}\n  {example}")
    return int(any(row["broken"] for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())
