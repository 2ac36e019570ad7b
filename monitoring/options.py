"""The command line. Bad options: a sentence and exit code 2."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from monitoring.thresholds import (
    BY_KEY,
    ThresholdError,
    Thresholds,
    parse,
    parse_words,
)

DEFAULT_INTERVAL = 5.0
EPILOG = """\
Thresholds (KEY, and its default RAISE:CLEAR:HOLD seconds):
{thresholds}

Exit codes: 0 well, 1 failed, 2 bad options; with --once also 3 degraded, 4 critical.
"""


@dataclass(frozen=True)
class Options:
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
        description="Watch the containers of a project, and the machine they run on.",
        epilog=EPILOG.format(thresholds="\n".join(lines)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--project",
        default=_env("PROJECT"),
        help="an APE project (ape), one stack of it (ape-dev), a Compose project, or a Swarm "
        "stack; without it: every container of the daemon",
    )
    add(
        "--interval",
        default=_env("INTERVAL", f"{DEFAULT_INTERVAL:g}"),
        metavar="SECONDS",
        help=f"between two samples, 1 to 3600 (default {DEFAULT_INTERVAL:g})",
    )
    add("--output", metavar="FILE", help="append each sample as a line of JSON, rotated by size")
    add(
        "--output-max-mb",
        default="100",
        metavar="MB",
        help="size at which FILE is rotated; five rotated files are kept (default 100)",
    )
    add("--no-console", action="store_true", help="show nothing on the terminal")
    add("--once", action="store_true", help="one sample over a second, then end")
    add("--json", action="store_true", help="a line of JSON a sample on stdout, not the page")
    add(
        "--port",
        default=_env("PORT") or None,
        help="serve /metrics, /alerts, /sample and /health on this port",
    )
    add("--bind", default=_env("BIND", "127.0.0.1"), help="address of --port (default 127.0.0.1)")
    add(
        "--docker-host",
        default=_env("DOCKER_HOST"),
        metavar="URL",
        help="address of the daemon (default: DOCKER_HOST, or the local socket)",
    )
    add(
        "--threshold",
        action="append",
        default=[],
        metavar="KEY=RAISE[:CLEAR[:HOLD]]",
        help="change a threshold; may be given again",
    )
    add("--agents", default=_env("AGENTS") or None, help="how many agents are declared")
    add(
        "--gateway",
        default=_env("GATEWAY"),
        metavar="URL",
        help="where the gateway counts heartbeats (default: its published port)",
    )
    add(
        "--alertmanager",
        default=_env("ALERTMANAGER"),
        metavar="URL",
        help="send alerts to this Alertmanager (API v2)",
    )
    add("--webhook", default=_env("WEBHOOK"), metavar="URL", help="POST alerts here as JSON")
    add("--cgroup-root", default=_env("CGROUP_ROOT", "/sys/fs/cgroup"), help=argparse.SUPPRESS)
    add("--proc-root", default=_env("PROC_ROOT", "/proc"), help=argparse.SUPPRESS)
    add(
        "--disk",
        action="append",
        metavar="PATH",
        help="watch the file system of PATH (default: / and Docker's data)",
    )
    return parser


def _number(
    parser: argparse.ArgumentParser, option: str, text: str, low: float, high: float
) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        parser.error(f"{option}: {text!r} is no number from {low:g} to {high:g}.")
    return value


def _url(parser: argparse.ArgumentParser, option: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        good = not text or (parts.scheme in ("http", "https") and bool(parts.hostname))
    except ValueError:
        good = False
    if not good:
        parser.error(f"{option}: is no http:// or https:// URL.")
    return text


def parse_arguments(argv: Sequence[str] | None = None) -> Options:
    """Raises SystemExit: 2 with a sentence on stderr for bad options, 0 for --help."""
    parser = _parser()
    found: Any = parser.parse_args(argv)
    try:
        given: dict[str, Any] = {}
        if text := _env("THRESHOLDS"):
            import json

            loaded = json.loads(text)
            if not isinstance(loaded, dict):
                raise ValueError
            given |= loaded
        thresholds = parse(given | parse_words(found.threshold))
    except ThresholdError as error:
        parser.error(f"--threshold: {error}")
    except ValueError:
        parser.error("APE_MONITOR_THRESHOLDS: is no JSON object.")
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
    """/, and Docker's data where that is another file system."""
    data = "/var/lib/docker"
    try:
        other = os.stat(data).st_dev != os.stat("/").st_dev
    except OSError:
        other = False
    return ["/", data] if other else ["/"]
