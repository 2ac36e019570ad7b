"""The token with which the agents of a stack authenticate at the inference proxy."""

from __future__ import annotations

import hmac

from ape_infra.config.errors import SettingsError
from ape_infra.config.project import config_key
from ape_infra.config.secrets import AGENT_TOKEN

MIN_LENGTH = 16


def agent_token(given: str, model_key: str, project: str, stack: str) -> str:
    """Return `given`, or 64 hex digits derived from the model's key and the stack's name.

    Without a key, the token only prevents mix-ups: anyone who knows the stack's name can compute
    it, but then there is no key to spend. Raises SettingsError.
    """
    if not given:
        message = f"ape-agent-token/{project}/{stack}"
        return hmac.new(model_key.encode(), message.encode(), "sha256").hexdigest()
    if len(given) < MIN_LENGTH or not given.isascii() or not given.isprintable() or " " in given:
        raise SettingsError(
            [
                f"{config_key(AGENT_TOKEN)}: is not {MIN_LENGTH} or more printable ASCII "
                "characters without spaces. Set it with: pulumi config set --secret "
                f"{config_key(AGENT_TOKEN)} $(openssl rand -hex 32)"
            ]
        )
    return given
