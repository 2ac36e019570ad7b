"""What requests to each provider of an OpenAI-compatible API look like, as plain data.

The infrastructure resolves a profile with the stack's settings; the proxy applies the result to
every request. Agents are the same for every provider.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

TokensField = Literal["max_completion_tokens", "max_tokens", ""]
# Fields of an assistant's message with its reasoning. A provider gets back only those in `echo`.
REASONING_FIELDS = ("reasoning", "reasoning_content", "reasoning_details", "extra_content")
COMPLETIONS, MODELS = "/chat/completions", "/models"


@dataclass(frozen=True)
class Provider:
    """One provider; an empty `base_url` or `model` must be set by the user.

    `needs_key`: whether it refuses requests without a key. `tokens_field`: the name of the limit of
    completion tokens; "": it takes none. `omit`: fields that it refuses. `parameters`: fields of
    every request, unless the caller sends its own. `echo`: those of REASONING_FIELDS that it asks
    for in the conversation, also inside of tool calls. `tool_choice`: whether it takes "required".
    `renamed`: its own names of OpenAI's fields. `filled`: those of `echo` that it asks for in each
    message of the assistant, also in one that came without.
    """

    base_url: str = ""
    model: str = ""
    needs_key: bool = True
    tokens_field: TokensField = "max_completion_tokens"
    omit: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    echo: tuple[str, ...] = ()
    tool_choice: bool = True
    renamed: dict[str, str] = field(default_factory=dict)
    filled: tuple[str, ...] = ()


# Sources: each provider's API reference, and reports of what it refused. Each profile has a test
# against a server that refuses the same (tests/unit/services/test_proxy_profiles.py).
PROVIDERS: dict[str, Provider] = {
    # 400 wrong_api_format for fields that it does not know, such as reasoning_content.
    "cerebras": Provider(
        "https://api.cerebras.ai/v1",
        "gpt-oss-120b",
        omit=("frequency_penalty", "presence_penalty", "logit_bias"),
    ),
    # Models that reason refuse max_tokens, and each temperature but 1.
    "openai": Provider(
        "https://api.openai.com/v1",
        omit=("temperature", "top_p", "frequency_penalty", "presence_penalty"),
    ),
    # "required" as of version 0.8.3. Takes fields that it does not know.
    "vllm": Provider(needs_key=False),
    # Ignores max_completion_tokens, and then answers without a limit.
    "ollama": Provider(
        "http://host.docker.internal:11434/v1", needs_key=False, tokens_field="max_tokens"
    ),
    # 404 for "required" where no endpoint of the model supports it.
    "openrouter": Provider(
        "https://openrouter.ai/api/v1",
        tokens_field="max_tokens",
        echo=("reasoning_details",),
        tool_choice=False,
    ),
    # 400 "property 'reasoning_content' is unsupported"; `reasoning` only by some models.
    "groq": Provider(
        "https://api.groq.com/openai/v1", omit=("logprobs", "top_logprobs", "logit_bias")
    ),
    # 422 "Extra inputs are not permitted", also inside of messages. Streams have a usage anyway.
    "mistral": Provider(
        "https://api.mistral.ai/v1",
        tokens_field="max_tokens",
        omit=("stream_options", "logprobs", "top_logprobs", "logit_bias", "user"),
        renamed={"seed": "random_seed"},
    ),
    # Thinking is on by default, refuses "required", and wants all of its thoughts back.
    "deepseek": Provider(
        "https://api.deepseek.com/v1",
        tokens_field="max_tokens",
        echo=("reasoning_content",),
        filled=("reasoning_content",),
        tool_choice=False,
    ),
    # Any other: everything is set by the user. Gemini asks for its thought signatures.
    "custom": Provider(needs_key=False, echo=("extra_content",)),
}


def endpoint(base_url: str, path: str) -> str:
    """The URL of COMPLETIONS or MODELS; the query of the base URL is kept.

    A base URL without a path gets /v1; any other path is the API's own, as in /api/v3 or /openai.
    Raises ValueError with a sentence, which never quotes the URL: it may hold a key.
    """
    if not base_url.isprintable() or " " in base_url:
        raise ValueError("has a space or a control character. Write the URL without it.")
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not a URL. Write it as in https://host:8000/v1.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("has no http:// or https:// with a host. Write the whole URL.")
    if "@" in parts.netloc:
        raise ValueError("has credentials. Remove them, and set the key as a secret.")
    if parts.fragment:
        raise ValueError("has a fragment. Remove the part after #.")
    # The whole URL of an endpoint is a likely mistake.
    base = parts.path.rstrip("/").removesuffix(COMPLETIONS).rstrip("/") or "/v1"
    return urlunsplit((parts.scheme, parts.netloc, base + path, parts.query, ""))
