"""Durations in Go's notation, which the daemon and the state use; CPUs."""

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
    """Return nanoseconds, or None where `text` is not a duration of 0 or more."""
    if text in ("", "0"):
        return 0
    if re.fullmatch(f"(?:{PART.pattern})+", text) is None:
        return None
    return sum(round(float(n) * UNITS[unit]) for n, unit in PART.findall(text))


def nanos(text: str | None) -> int:
    """Return the nanoseconds of a checked duration; 0 for None."""
    return parse_duration(text or "0") or 0


def go_duration(value: int) -> str:
    """Return the text of Go's time.Duration.String(): 60 s is "1m0s"."""
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
    """Return the published plugin's form of a Service's durations: "1m", "2h"."""
    made = go_duration(value)
    if made.endswith("m0s"):
        made = made[:-2]
    return made[:-2] if made.endswith("h0m") else made


def nano_cpus(cpus: str) -> int:
    """Convert `cpus` ("1.5") to billionths of a CPU. Raises ValueError."""
    return round(float(cpus) * 1_000_000_000)


def cpus_text(value: int) -> str:
    """Convert billionths of a CPU to the published plugin's text.

    Upstream's nanoInt64ToDecimalString (helpers.go) keeps one decimal for a text with nine zeros:
    "1" becomes "1.0", and 0.05 becomes "0.1". Such an input always differs from the state.
    """
    full = f"{value // 1_000_000_000}.{value % 1_000_000_000:09d}"
    if full.count("0") == 9:
        tenths = (value + 50_000_000) // 100_000_000
        return f"{tenths // 10}.{tenths % 10}"
    return full.rstrip("0")
