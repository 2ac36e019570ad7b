"""The token with which a container of agents signs its reports to the gateway.

It names the slots that its holder may report about, and is authentic by the key of the stack, which
only the program and the gateway have: the program hands each container its token, and the gateway
keeps none of them.

    FIRST-LAST/EACH.MAC

The slots FIRST to LAST in containers of EACH. A container's own token has one container's slots. On
Swarm, where the replicas of a service share their files, it has those of the service.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

_TOKEN = re.compile(r"(([1-9]\d{0,8})-([1-9]\d{0,8})/([1-9]\d{0,8}))\.([0-9a-f]{64})")


@dataclass(frozen=True)
class Grant:
    """The slots of a token, in containers of `each`."""

    slots: range
    each: int

    @property
    def is_shared(self) -> bool:
        """Whether more than one container has it."""
        return self.each < len(self.slots)

    def container_of(self, slot: int) -> range:
        """The slots of the container that has `slot`, which is one of this grant's."""
        first = slot - (slot - self.slots.start) % self.each
        return range(first, min(first + self.each, self.slots.stop))


def sign(key: str, first: int, last: int, each: int) -> str:
    """The token of the slots `first` to `last` (inclusive), in containers of `each`."""
    text = f"{first}-{last}/{each}"
    return f"{text}.{_mac(key, text)}"


def is_token(text: str) -> bool:
    """Whether the text has the form of a token."""
    return bool(_TOKEN.fullmatch(text))


def verify(key: str, token: str) -> Grant | None:
    """The grant of an authentic token; else None."""
    match = _TOKEN.fullmatch(token)
    if not match or not hmac.compare_digest(_mac(key, match[1]), match[5]):
        return None
    return Grant(range(int(match[2]), int(match[3]) + 1), int(match[4]))


def control(key: str) -> str:
    """The token of those who begin, end and watch runs; agents cannot compute it."""
    return hmac.new(key.encode(), b"ape-control", hashlib.sha256).hexdigest()


def is_control(key: str, token: str) -> bool:
    """Whether the token is the control token of the key."""
    return hmac.compare_digest(control(key).encode(), token.encode("utf-8", "replace"))


def _mac(key: str, text: str) -> str:
    return hmac.new(key.encode(), f"ape-report/{text}".encode(), hashlib.sha256).hexdigest()
