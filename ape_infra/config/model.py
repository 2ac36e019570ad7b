"""Settings of the model: its provider, its requests, its limits, its prices, and recordings."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from ape_contracts.providers import PROVIDERS
from ape_infra.config.group import Group

# cerebras: the earlier spelling of `provider` with the provider cerebras.
ModelKind = Literal["offline", "recorded", "provider", "cerebras"]
_PRICE = r"^[0-9]{1,6}(\.[0-9]{1,6})?$"
_NUMBER = r"[0-9]{1,3}(\.[0-9]{1,6})?"


class ModelSettings(Group):
    model_config = ConfigDict(alias_generator=lambda name: to_camel(f"model_{name}"))

    kind: ModelKind = Field(
        "offline",
        alias="model",
        description="offline: a deterministic stand-in. recorded: the answers in modelRecording. "
        "provider: the real model of the provider. cerebras: provider with the provider cerebras.",
    )
    provider: str = Field(
        "cerebras",
        alias="provider",
        description=f"Profile of the provider: {', '.join(PROVIDERS)}; custom is any other with "
        "an OpenAI-compatible API.",
    )
    base_url: str = Field(
        "",
        description="Base URL of the OpenAI-compatible API, with or without /v1; a query is kept; "
        "empty: the provider's.",
    )
    name: str = Field("", description="Name of the model; empty: the provider's default.")
    max_tokens: int = Field(
        4096,
        ge=0,
        le=1_000_000,
        description="Limit of completion tokens per request, with the tokens for reasoning; "
        "0: not sent.",
    )
    tokens_field: Literal["", "max_completion_tokens", "max_tokens"] = Field(
        "", description="Name of the limit of completion tokens in requests; empty: the provider's."
    )
    reasoning_effort: str = Field(
        "",
        max_length=40,
        description="Effort of a model that reasons, such as low, medium or high; empty: not sent.",
    )
    temperature: str = Field(
        "auto",
        pattern=rf"^({_NUMBER}|auto|default)?$",
        description="Temperature of requests; auto: 0, unless the provider refuses it; default or "
        "empty: not sent.",
    )
    top_p: str = Field(
        "",
        pattern=rf"^({_NUMBER})?$",
        description="Share of the likeliest tokens that the model chooses from; empty: not sent.",
    )
    seed: str = Field(
        "", pattern=r"^(-?[0-9]{1,18})?$", description="Random seed of requests; empty: not sent."
    )
    tool_choice: Literal["auto", "off"] = Field(
        "auto",
        description="auto: a session's first call is required, where the provider allows that. "
        "off: requests have no tool_choice.",
    )
    stream: bool = Field(
        True,
        description="Ask the model for streams, so that the time to the first token and between "
        "tokens is measured; false: for whole answers.",
    )
    omit: list[str] = Field(
        [], description="Fields that are left out of requests, besides those of the provider."
    )
    body: dict[str, Any] | None = Field(
        None, description="Extra fields of each request, as an object; empty: none."
    )
    headers: dict[str, str] | None = Field(
        None,
        description="Extra headers of each request, as an object of texts; a key belongs into the "
        "secret modelApiKey. Empty: none.",
    )
    key_header: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_-]*$",
        description="Header that carries the key, such as api-key; empty: a bearer token.",
    )
    ca_file: str = Field(
        "",
        description="Path of a file with the certificates (PEM) of the authorities that the proxy "
        "trusts; empty: the public ones.",
    )
    http_proxy: str = Field(
        "", description="URL of an HTTP proxy for requests to the model; empty: none."
    )
    connect_seconds: int = Field(
        10, ge=1, le=300, description="Maximum time in seconds to connect to the model."
    )
    first_byte_seconds: int = Field(
        60,
        ge=1,
        le=3600,
        description="Maximum time in seconds until the model's answer begins.",
    )
    timeout_seconds: int = Field(
        120,
        ge=1,
        le=3600,
        description="Maximum time in seconds of a completion, with its queue and its retries, and "
        "between two pieces of a stream.",
    )
    concurrency: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Limit of requests to the model at the same time, for the whole fleet; "
        "0: none.",
    )
    context_tokens: int = Field(
        0,
        ge=0,
        le=100_000_000,
        description="Size of the model's context in tokens; 0: unknown, and learned from the "
        "provider's refusals.",
    )
    requests_per_minute: int = Field(
        0,
        ge=0,
        description="Limit of requests per minute to the model, for the whole fleet; 0: none.",
    )
    tokens_per_minute: int = Field(
        0,
        ge=0,
        description="Limit of tokens per minute of the model, for the whole fleet; 0: none.",
    )
    tokens_per_minute_per_agent: int = Field(
        0,
        ge=0,
        description="Limit of tokens per minute of the model, for each agent; 0: none.",
    )
    most_tokens: int = Field(
        0,
        ge=0,
        le=10**15,
        alias="maxTokens",
        description="Spend limit in tokens of the model, since the start of the proxy: it then "
        "answers `budget_exhausted`; 0: none.",
    )
    most_dollars: str = Field(
        "0",
        alias="maxCostDollars",
        pattern=_PRICE,
        description="Spend limit in dollars, since the start of the proxy; requires "
        "modelInputPrice and modelOutputPrice; 0: none.",
    )
    allow_unlimited_spending: bool = Field(
        False,
        alias="allowUnlimitedSpending",
        description="Allow a provider that bills its tokens without a spend limit in production.",
    )
    queue_seconds: int = Field(
        20,
        ge=1,
        le=3600,
        description="Maximum time in seconds that a request over a limit is queued.",
    )
    retries: int = Field(
        2, ge=0, le=10, description="Maximum number of retries per request to the model."
    )
    input_price: str = Field(
        "0",
        pattern=_PRICE,
        description="Price in dollars per million prompt tokens, such as 0.85; 0: unknown.",
    )
    output_price: str = Field(
        "0",
        pattern=_PRICE,
        description="Price in dollars per million completion tokens; 0: unknown.",
    )
    record: bool = Field(
        False, description="Keep the model's answers, for GET /recording of the inference proxy."
    )
    recording: str = Field("", description="Path of a recording; required with model recorded.")

    @property
    def is_remote(self) -> bool:
        """Whether a provider answers, and not the proxy itself."""
        return self.kind in ("provider", "cerebras")
