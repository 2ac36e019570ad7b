"""Settings of the model: which one, its limits, its price, and recordings of it."""

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
        "recorded: answers of modelRecording.",
    )
    base_url: str = Field(
        "https://api.cerebras.ai/v1", description="Base URL of the OpenAI-compatible API."
    )
    name: str = Field("llama-3.3-70b", min_length=1, description="Name of the model.")
    requests_per_minute: int = Field(
        0, ge=0, description="Requests a minute to the model, of all agents together; 0: no limit."
    )
    tokens_per_minute: int = Field(
        0, ge=0, description="Tokens a minute of the model, of all agents together; 0: no limit."
    )
    queue_seconds: int = Field(
        20, ge=1, le=30, description="Seconds that a request may wait for those limits."
    )
    retries: int = Field(
        2, ge=0, le=10, description="Further tries of a request that the model did not take."
    )
    input_price: str = Field(
        "0",
        pattern=_PRICE,
        description="Price of a million prompt tokens in dollars, such as 0.85; 0: unknown.",
    )
    output_price: str = Field(
        "0",
        pattern=_PRICE,
        description="Price of a million completion tokens in dollars; 0: unknown.",
    )
    record: bool = Field(
        False, description="Keep the model's answers for GET /recording of the proxy."
    )
    recording: str = Field("", description="Path of a recording; needed with model recorded.")
