"""The secret targetCredentials: whose names the program knows, and whose values only agents do."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ape_contracts import sign_in
from ape_infra.config.errors import SettingsError
from ape_infra.config.secrets import STAND_IN, TARGET_CREDENTIALS
from ape_infra.config.sign_in import needed

_COLUMNS = "; or, with sessions `runs`, add it as a column to the users file"
_FORM = '{"username": "...", "password": "..."}, or a list of such objects'


@dataclass(frozen=True)
class Credentials:
    """`names`: those that every user has; None: they cannot be known, as of an output."""

    is_set: bool = False
    names: frozenset[str] | None = frozenset()

    @classmethod
    def of(cls, text: Any) -> Credentials:
        """Read the names of a secret's text. Raises SettingsError, which quotes no value."""
        if not text:
            return cls()
        if not isinstance(text, str) or text == STAND_IN:
            return cls(True, None)
        try:
            users = sign_in.users(json.loads(text))
        except (ValueError, RecursionError):
            raise _error(f"is not JSON. Set {_FORM}.") from None
        except sign_in.SignInError as error:
            raise _error(f"{error} Set {_FORM}.") from None
        return cls(True, frozenset(set.intersection(*map(set, users))))

    def with_columns(self, columns: Collection[str]) -> Credentials:
        """With the columns of a users file, which each session has a value for."""
        return Credentials(True, None if self.names is None else self.names | set(columns))

    def has(self, names: Collection[str]) -> bool:
        """Whether each user has all of `names`, as far as that can be known."""
        return self.is_set and (self.names is None or self.names >= set(names))

    def check(self, steps: list[dict[str, Any]]) -> None:
        """Raises SettingsError if a step of targetSignIn needs a credential that is missing."""
        for name, step in needed(steps).items():
            if not self.has([name]):
                raise _error(f"lacks {name}, which {step} needs. Set {_FORM}{_COLUMNS}.")


def _error(sentence: str) -> SettingsError:
    return SettingsError.at(TARGET_CREDENTIALS, sentence)
