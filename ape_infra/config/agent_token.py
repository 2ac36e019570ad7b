"""The token with which the agents of a stack show themselves to the proxy."""

from __future__ import annotations

import hmac

from ape_infra.config.errors import SettingsError
from ape_infra.config.project import config_key
from ape_infra.config.secrets import AGENT_TOKEN

MIN_LENGTH = 16


def agent_token(given: str, model_key: str, project: str, stack: str) -> str:
    """`given`, or 64 hex digits made of the model's key and the stack: always the same for it.

    Without a key it keeps strays out, though nobody who knows the stack's name: where there is no
    key there is nothing to spend. Raises SettingsError.
    """
    if not given:
        message = f"ape-agent-token/{project}/{stack}"
        return hmac.new(model_key.encode(), message.encode(), "sha256").hexdigest()
    if len(given) < MIN_LENGTH or not given.isascii() or not given.isprintable() or " " in given:
        raise SettingsError(
            [
                f"{config_key(AGENT_TOKEN)}: must be {MIN_LENGTH} or more letters, digits and "
                "signs, without blanks. Try: pulumi config set --secret "
                f"{config_key(AGENT_TOKEN)} $(openssl rand -hex 32)"
            ]
        )
    return given
