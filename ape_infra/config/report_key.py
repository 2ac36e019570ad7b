"""The key of a stack that signs its containers' reports (ape_contracts.report_token)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from ape_infra.config.name_key import COST


@dataclass(frozen=True)
class ReportKey:
    """`guessable`: the stack has no secret that its agents do not have too."""

    value: str = field(repr=False)
    guessable: bool = False

    @classmethod
    def of(cls, token: str, model_key: str, passphrase: str, project: str, stack: str) -> ReportKey:
        """Return the key from the model's key or the passphrase; it is nowhere stored.

        Agents have `token`, so it is not made of that. With a `token`, the passphrase comes first:
        another model key then replaces no agent.
        """
        scope = f"ape-reports/{project}/{stack}".encode()
        if model_key and not (token and passphrase):
            return cls(hmac.new(model_key.encode(), scope, "sha256").hexdigest())
        made = hashlib.scrypt(passphrase.encode(), salt=scope, n=COST, r=8, p=1, dklen=32)
        return cls(made.hex(), guessable=not passphrase)
