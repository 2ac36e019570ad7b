"""What requests to each provider of an OpenAI-compatible API look like, as plain data.

The infrastructure resolves a profile with the stack's settings; the proxy applies the result to
every request. Agents know no provider.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

TokensField = Literal["max_completion_tokens", "max_tokens", ""]
# Fields of an assistant's message with its reasoning. A provider gets back only those in `echo`.
REASONING_FIELDS = ("reasoning", "reasoning_content", "reasoning_details", "extra_content")


@dataclass(frozen=True)
class Provider:
    """One provider; an empty `base_url` or `model` must be set by the user.

    `needs_key`: whether it refuses requests without a key. `tokens_field`: the name of the limit of
    completion tokens. `omit`: fields that it refuses. `parameters`: fields of every request, unless
    the caller sends its own. `echo`: those of REASONING_FIELDS that it asks for in the
    conversation, also inside of tool calls. `tool_choice`: whether it takes "required".
    """

    base_url: str = ""
    model: str = ""
    needs_key: bool = True
    tokens_field: TokensField = "max_completion_tokens"
    omit: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    echo: tuple[str, ...] = ()
    tool_choice: bool = True


# Sources: each provider's API reference, and the reports that its line was tested against.
PROVIDERS: dict[str, Provider] = {
    "cerebras": Provider("https://api.cerebras.ai/v1", "gpt-oss-120b"),
    "openai": Provider("https://api.openai.com/v1", omit=("temperature", "top_p")),
    "vllm": Provider(needs_key=False),
    "ollama": Provider("http://host.docker.internal:11434/v1", needs_key=False),
    "openrouter": Provider("https://openrouter.ai/api/v1", echo=("reasoning_details",)),
    "groq": Provider("https://api.groq.com/openai/v1"),
    "mistral": Provider("https://api.mistral.ai/v1", tokens_field="max_tokens"),
    "deepseek": Provider("https://api.deepseek.com/v1", tokens_field="max_tokens"),
    # Any other: everything is set by the user.
    "custom": Provider(needs_key=False, echo=("extra_content",)),
}


def endpoint(base_url: str, path: str) -> str:
    """Return the URL of `path`, such as /models, below a base URL with or without /v1.

    The query stays. Raises ValueError.
    """
    parts = urlsplit(base_url)
    _ = parts.port
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not a URL with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds credentials")
    return urlunsplit(parts._replace(path=(parts.path.rstrip("/") or "/v1") + path, fragment=""))
