"""The command line. An invalid option ends with a message and exit code 2."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from monitoring.output import KEEP
from monitoring.thresholds import (
    BY_KEY,
    ThresholdError,
    Thresholds,
    parse,
    parse_words,
)

DEFAULT_INTERVAL = 5.0
# `add_argument` of a parser.
Add = Callable[..., Any]
EPILOG = """\
Thresholds (KEY, and its default RAISE:CLEAR:HOLD in seconds):
{thresholds}

Exit codes: 0 success, 1 failed, 2 invalid options; with --once also 3 degraded, 4 critical.
"""


@dataclass(frozen=True)
class Options:
    """Options of the command line, checked. `port` None: no HTTP server."""

    project: str
    interval: float
    output: Path | None
    output_max_bytes: int
    console: bool
    once: bool
    json: bool
    port: int | None
    bind: str
    docker_host: str
    thresholds: Thresholds
    declared: int | None
    gateway: str
    alertmanager: str
    webhook: str
    cgroup: str
    proc: str
    disks: tuple[str, ...]


def _env(name: str, default: str = "") -> str:
    return os.environ.get(f"APE_MONITOR_{name}", default)


def _parser() -> argparse.ArgumentParser:
    lines = (
        f"  {r.key:<24} {r.raise_at:g}:{r.clear_at:g}:{r.hold_seconds:g}  {r.alert}"
        for r in BY_KEY.values()
    )
    parser = argparse.ArgumentParser(
        prog="python -m monitoring",
        description="Monitor the containers of a project and the machine that runs them.",
        epilog=EPILOG.format(thresholds="\n".join(lines)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_scope(parser.add_argument)
    _add_output(parser.add_argument)
    _add_alerts(parser.add_argument)
    _add_sources(parser.add_argument)
    return parser


def _add_scope(add: Add) -> None:
    add(
        "--project",
        default=_env("PROJECT"),
        help="monitor an APE project (ape), one of its stacks (ape-dev), a Compose project or a "
        "Swarm stack (default: every container of the daemon)",
    )
    add(
        "--interval",
        default=_env("INTERVAL", f"{DEFAULT_INTERVAL:g}"),
        metavar="SECONDS",
        help=f"take a sample every SECONDS, 1 to 3600 (default {DEFAULT_INTERVAL:g})",
    )
    add("--once", action="store_true", help="take one sample over a second, then exit")


def _add_output(add: Add) -> None:
    add("--output", metavar="FILE", help="append each sample as a line of JSON, rotated by size")
    add(
        "--output-max-mb",
        default="100",
        metavar="MB",
        help=f"rotate FILE at this size and keep {KEEP} rotated files (default 100)",
    )
    add("--no-console", action="store_true", help="show nothing on the terminal")
    add("--json", action="store_true", help="write each sample to stdout as a line of JSON")
    add(
        "--port",
        default=_env("PORT") or None,
        help="serve /metrics, /alerts, /sample and /health on this port",
    )
    add(
        "--bind",
        default=_env("BIND", "127.0.0.1"),
        help="listen on this address (default 127.0.0.1)",
    )


def _add_alerts(add: Add) -> None:
    add(
        "--threshold",
        action="append",
        default=[],
        metavar="KEY=RAISE[:CLEAR[:HOLD]]",
        help="change a threshold; repeat the option for further ones",
    )
    add("--agents", default=_env("AGENTS") or None, help="expect this number of agents")
    add(
        "--alertmanager",
        default=_env("ALERTMANAGER"),
        metavar="URL",
        help="send alerts to this Alertmanager (API v2)",
    )
    add("--webhook", default=_env("WEBHOOK"), metavar="URL", help="POST alerts to this URL as JSON")


def _add_sources(add: Add) -> None:
    add(
        "--docker-host",
        default=_env("DOCKER_HOST"),
        metavar="URL",
        help="use the daemon at this address (default: as the docker command)",
    )
    add(
        "--gateway",
        default=_env("GATEWAY"),
        metavar="URL",
        help="read heartbeats from this gateway (default: its published port)",
    )
    add(
        "--disk",
        action="append",
        metavar="PATH",
        help="monitor the file system of PATH (default: / and Docker's data)",
    )
    add("--cgroup-root", default=_env("CGROUP_ROOT", "/sys/fs/cgroup"), help=argparse.SUPPRESS)
    add("--proc-root", default=_env("PROC_ROOT", "/proc"), help=argparse.SUPPRESS)


def _number(
    parser: argparse.ArgumentParser, option: str, text: str, low: float, high: float
) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        parser.error(f"{option}: {text!r} is not a number from {low:g} to {high:g}.")
    return value


def _url(parser: argparse.ArgumentParser, option: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        good = not text or (parts.scheme in ("http", "https") and bool(parts.hostname))
    except ValueError:
        good = False
    if not good:
        parser.error(f"{option}: is not an http:// or https:// URL.")
    return text


def parse_arguments(argv: Sequence[str] | None = None) -> Options:
    """Parse the options. Raises SystemExit: 2 with a message for invalid ones, 0 for --help."""
    parser = _parser()
    found: Any = parser.parse_args(argv)
    try:
        given: dict[str, Any] = {}
        if text := _env("THRESHOLDS"):
            loaded = json.loads(text)
            if not isinstance(loaded, dict):
                raise ValueError
            given |= loaded
        thresholds = parse(given | parse_words(found.threshold))
    except ThresholdError as error:
        parser.error(f"--threshold: {error}")
    except ValueError:
        parser.error("APE_MONITOR_THRESHOLDS: is not a JSON object.")
    port = declared = None
    if found.port is not None:
        port = int(_number(parser, "--port", found.port, 0, 65535))
    if found.agents is not None:
        declared = int(_number(parser, "--agents", found.agents, 0, 100_000))
    return Options(
        project=found.project,
        interval=_number(parser, "--interval", found.interval, 1, 3600),
        output=Path(found.output) if found.output else None,
        output_max_bytes=int(
            _number(parser, "--output-max-mb", found.output_max_mb, 1, 1e6) * 2**20
        ),
        console=not found.no_console,
        once=found.once,
        json=found.json,
        port=port,
        bind=found.bind,
        docker_host=found.docker_host,
        thresholds=thresholds,
        declared=declared,
        gateway=_url(parser, "--gateway", found.gateway),
        alertmanager=_url(parser, "--alertmanager", found.alertmanager),
        webhook=_url(parser, "--webhook", found.webhook),
        cgroup=found.cgroup_root,
        proc=found.proc_root,
        disks=tuple(found.disk or _disks()),
    )


def _disks() -> list[str]:
    """Return /, and Docker's data folder where that is on another file system."""
    data = "/var/lib/docker"
    try:
        other = os.stat(data).st_dev != os.stat("/").st_dev
    except OSError:
        other = False
    return ["/", data] if other else ["/"]
