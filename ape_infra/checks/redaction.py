"""Texts for an issue: without secrets, names of users and hosts, and the paths of a home."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
# A shorter value is a word that the text may have anyway.
SHORTEST = 4
# A URL with a user, as in https://user:password@host.
USER_OF_URL = re.compile(r"(://)[^/\s@]+@")
BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[^\s,;]+")
TOKENS = re.compile(r"\b(?:pul-|gh[pousr]_|sk-|csk-|xox[a-z]-|glpat-)[A-Za-z0-9_-]{8,}")
HOME = re.compile(r"(/home|/Users|/export/home)/[^/\s:'\"]+")
# Accounts that every machine has.
COMMON_USERS = frozenset({"root", "user", "admin", "docker", "ubuntu", "debian"})


@dataclass(frozen=True)
class Private:
    """What a text must not show. `paths`: folder -> what stands for it."""

    users: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    paths: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = field(default=(), repr=False)


def secrets_of(env: Mapping[str, str]) -> tuple[str, ...]:
    """The values of variables whose names are those of secrets, and of files only their paths."""
    return tuple(
        value
        for name, value in env.items()
        if SECRET_NAME.search(name) and not name.endswith("_FILE") and len(value) >= SHORTEST
    )


def redact(text: str, private: Private) -> str:
    """The text without everything private."""
    for secret in _longest_first(private.secrets):
        text = text.replace(secret, "[secret]")
    text = USER_OF_URL.sub(r"\1[secret]@", text)
    text = BEARER.sub(r"\1 [secret]", text)
    text = TOKENS.sub("[secret]", text)
    for path in _longest_first(private.paths):
        # Not the beginning of another name: /root in /rootless.
        text = re.sub(re.escape(path) + r"(?![\w-])", private.paths[path], text)
    text = HOME.sub(r"\1/[user]", text)
    users = (user for user in private.users if user not in COMMON_USERS)
    for names, stands_for in ((users, "[user]"), (private.hosts, "[host]")):
        for name in _longest_first(names):
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", stands_for, text)
    return text


def _longest_first(words: Iterable[str]) -> list[str]:
    """What is part of another word comes after it; `/` and empty ones are left out."""
    return sorted({word for word in words if len(word) > 1}, key=len, reverse=True)
