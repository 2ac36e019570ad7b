"""Settings of the model: the model, its rate limits, its prices, and recordings."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from ape_infra.config.group import Group

ModelKind = Literal["offline", "cerebras", "recorded"]
_PRICE = r"^[0-9]{1,6}(\.[0-9]{1,6})?$"


class ModelSettings(Group):
    model_config = ConfigDict(alias_generator=lambda name: to_camel(f"model_{name}"))

    kind: ModelKind = Field(
        "offline",
        alias="model",
        description="offline: a deterministic stand-in. cerebras: the real model. "
        "recorded: the answers in modelRecording.",
    )
    base_url: str = Field(
        "https://api.cerebras.ai/v1", description="Base URL of the OpenAI-compatible API."
    )
    name: str = Field("llama-3.3-70b", min_length=1, description="Name of the model.")
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
    queue_seconds: int = Field(
        20,
        ge=1,
        le=30,
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
