"""The key of a stack with which digests of secrets in names are made.

A Swarm secret or a volume is named after a digest of its content, and names are in the state, in
previews and on the daemon. Without a key, a password of a word list is found from its digest.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Of scrypt: 16 MB and 50 ms for each guess of a passphrase, once per preview.
COST = 2**14


def passphrase(env: Mapping[str, str] = os.environ) -> str:
    """Pulumi's passphrase, as Pulumi reads it; empty where another service encrypts the state."""
    given = env.get("PULUMI_CONFIG_PASSPHRASE")
    if given is None and (file := env.get("PULUMI_CONFIG_PASSPHRASE_FILE")):
        try:
            given = Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            given = ""
    return given or ""


@dataclass(frozen=True)
class NameKey:
    """`guessable`: the stack has nothing that only its owner knows."""

    value: bytes = field(repr=False)
    guessable: bool = False

    @classmethod
    def of(cls, token: str, passphrase: str, project: str, stack: str) -> NameKey:
        """Return the key from the agents' token or the model's key, else from the passphrase.

        It is the same in each preview, needs no daemon, and is nowhere stored.
        """
        scope = f"ape-names/{project}/{stack}".encode()
        if token:
            return cls(hmac.digest(token.encode(), scope, "sha256"))
        made = hashlib.scrypt(passphrase.encode(), salt=scope, n=COST, r=8, p=1, dklen=32)
        return cls(made, guessable=not passphrase)

    def digest(self, content: bytes) -> str:
        """Twelve hex digits that change with the content, and reveal nothing without the key."""
        return hmac.digest(self.value, content, "sha256").hex()[:12]
