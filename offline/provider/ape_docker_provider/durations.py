"""Durations as Go reads and writes them, which is what the daemon and the state hold."""

from __future__ import annotations

import re

UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
}
PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def parse_duration(text: str) -> int | None:
    """Nanoseconds, or None if it is not a duration of 0 or more."""
    if text in ("", "0"):
        return 0
    if re.fullmatch(f"(?:{PART.pattern})+", text) is None:
        return None
    return sum(round(float(n) * UNITS[unit]) for n, unit in PART.findall(text))


def nanos(text: str | None) -> int:
    """Nanoseconds of a duration that check has accepted; 0 if there is none."""
    return parse_duration(text or "0") or 0


def go_duration(value: int) -> str:
    """Go's time.Duration.String(): 60 s is "1m0s"."""
    if value == 0:
        return "0s"
    if value < UNITS["s"]:
        for unit in ("ms", "µs"):
            if value >= UNITS[unit]:
                return f"{value / UNITS[unit]:.9f}".rstrip("0").rstrip(".") + unit
        return f"{value}ns"
    hours, rest = divmod(value, UNITS["h"])
    minutes, rest = divmod(rest, UNITS["m"])
    seconds = f"{rest / UNITS['s']:.9f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def short_duration(value: int) -> str:
    """The form in which the published plugin reads a Service's durations: "1m", "2h"."""
    made = go_duration(value)
    if made.endswith("m0s"):
        made = made[:-2]
    return made[:-2] if made.endswith("h0m") else made


def nano_cpus(cpus: str) -> int:
    """`cpus` ("1.5") in billionths of a CPU."""
    return round(float(cpus) * 1_000_000_000)


def cpus_text(value: int) -> str:
    """Billionths of a CPU as the published plugin reads them back.

    Upstream's nanoInt64ToDecimalString: nine zeros in all mean one decimal, so "1" comes back as
    "1.0" and 0.05 as "0.1" (helpers.go). Such an input differs from the state for ever.
    """
    full = f"{value // 1_000_000_000}.{value % 1_000_000_000:09d}"
    if full.count("0") == 9:
        tenths = (value + 50_000_000) // 100_000_000
        return f"{tenths // 10}.{tenths % 10}"
    return full.rstrip("0")
