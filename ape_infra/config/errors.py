"""Errors in settings: the path of a setting, the rule that it breaks, and the remedy."""

from __future__ import annotations

import json
from collections.abc import Collection
from urllib.parse import urlsplit

from pydantic import ValidationError

from ape_infra.config.project import config_key

Problem = tuple[str, str]
_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "is not a setting",
}
UNKNOWN_REMEDY = "Correct or remove it; `Pulumi.yaml` lists all settings"


class SettingsError(Exception):
    """The rules that the settings break, one line each: path, rule, remedy."""

    def __init__(self, lines: Collection[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))

    @classmethod
    def at(cls, path: str, sentence: str) -> SettingsError:
        """The error of one setting."""
        return cls.of([(path, sentence)])

    @classmethod
    def of(cls, problems: Collection[Problem]) -> SettingsError:
        return cls([f"{config_key(path)}: {sentence}" for path, sentence in problems])


def dotted_path(parts: tuple[int | str, ...]) -> str:
    """The path in the notation of `pulumi config set --path`, such as tiers[2].memoryMb."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def problems_of(error: ValidationError) -> list[Problem]:
    """Each error of pydantic as (path, sentence)."""
    found = []
    for item in error.errors(include_url=False):
        message = _MESSAGES.get(item["type"])
        if message is None:
            rule = item["msg"][0].lower() + item["msg"][1:]
            message = f"is {json.dumps(item['input'], default=str)}; {rule}"
        if item["type"] == "extra_forbidden":
            message += f". {UNKNOWN_REMEDY}"
        found.append((dotted_path(item["loc"]), f"{message}."))
    return found


def missing_secret(name: str, reason: str) -> Problem:
    command = f"pulumi config set --secret {config_key(name)}"
    return name, f"is not set, but required because {reason}. Set it with: {command}"


def url_problems(name: str, value: str, alternative: str) -> list[Problem]:
    parts = urlsplit(value)
    if parts.scheme in ("http", "https") and parts.hostname:
        return []
    return [
        (
            name,
            f'is "{value}", which is not a URL with a scheme. Set http://... or https://..., '
            f"{alternative}.",
        )
    ]
