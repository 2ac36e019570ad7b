"""Requests in the form that the provider takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ape_contracts.providers import PROVIDERS, REASONING_FIELDS, Provider
from ape_contracts.service_settings import ProxySettings
from ape_proxy.costs import TOKENS_FIELDS, limited, token_limit

# Of fields in `filled`: an empty text counts as missing.
_BLANK = " "


@dataclass(frozen=True)
class Shape:
    """The fields are those of Provider; `max_tokens`: the stack's limit, 0: none.

    `model`: the name of the model; empty: the caller's.
    """

    tokens_field: str = Provider.tokens_field
    max_tokens: int = 0
    omit: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    echo: tuple[str, ...] = ()
    tool_choice: bool = True
    renamed: Mapping[str, str] = field(default_factory=dict)
    filled: tuple[str, ...] = ()
    model: str = ""


def shape_of(settings: ProxySettings) -> Shape:
    profile = PROVIDERS.get(settings.provider, Provider())
    echo = tuple(settings.echo)
    return Shape(
        settings.tokens_field,
        settings.max_tokens,
        tuple(settings.omit),
        settings.parameters,
        echo,
        settings.tool_choice,
        profile.renamed,
        tuple(name for name in profile.filled if name in echo),
    )


def shaped(body: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """The caller's request with what the settings add, rename and remove; `body` stays as it is."""
    made = limited(body, shape.parameters)
    if shape.model:
        made["model"] = shape.model
    most = shape.max_tokens or token_limit(shape.parameters, 0)
    limit = token_limit(body, most)
    for name in TOKENS_FIELDS:
        made.pop(name, None)
    if shape.tokens_field and limit:
        made[shape.tokens_field] = limit
    for name, own in shape.renamed.items():
        if name in made:
            made.setdefault(own, made.pop(name))
    for name in shape.omit if shape.tool_choice else (*shape.omit, "tool_choice"):
        made.pop(name, None)
    if not made.get("stream"):
        # Servers refuse the options of a stream without one.
        made.pop("stream_options", None)
    made["messages"] = [_message(each, shape) for each in body.get("messages") or ()]
    return made


def _message(message: Any, shape: Shape) -> Any:
    """The message without reasoning that the provider does not take."""
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return message
    made = _without(message, shape)
    calls = made.get("tool_calls")
    if isinstance(calls, list):
        made["tool_calls"] = [_without(c, shape) if isinstance(c, dict) else c for c in calls]
    return made | {name: _BLANK for name in shape.filled if not made.get(name)}


def _without(value: dict[str, Any], shape: Shape) -> dict[str, Any]:
    return {k: v for k, v in value.items() if k not in REASONING_FIELDS or k in shape.echo}
