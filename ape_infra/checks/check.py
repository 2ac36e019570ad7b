"""A check: a named test with a status, what was observed, and a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ape_contracts.text import plain

Status = Literal["ok", "warn", "fail", "unknown"]


@dataclass(frozen=True)
class Check:
    """`path`: the setting that the check is about, such as ape:agents; empty: none.

    `unknown`: the check could not be made. The remedy is empty where none is needed. `details`:
    everything that `observed` sums up, for the `--json` outputs.
    """

    name: str
    status: Status
    observed: str
    remedy: str = ""
    path: str = ""
    details: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return plain(f"{self.path or self.name}: {self.observed} {self.remedy}".rstrip())

    def data(self) -> dict[str, object]:
        """The check under the keys of the `--json` outputs."""
        more = {"details": list(self.details)} if self.details else {}
        return more | {
            "name": self.name,
            "state": self.status,
            "saw": self.observed,
            "mend": self.remedy,
            "path": self.path,
        }


def failed(checks: Sequence[Check]) -> tuple[Check, ...]:
    return tuple(check for check in checks if check.status == "fail")
