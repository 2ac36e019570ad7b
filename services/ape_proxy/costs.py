"""The fields of a request that decide what it costs: they are the stack's, not the caller's.

`model` is always the stack's. The fields of STACKS are sent as the stack's settings have them, or
not at all. The limit of completion tokens is the caller's up to the stack's. Everything else, such
as the temperature, is the caller's before the stack's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ape_proxy.completion import MAX_TOKENS

TOKENS_FIELDS = ("max_completion_tokens", "max_tokens")
# More answers, a dearer service, other models, tools that the provider runs and bills, and other
# names of the limit of tokens.
STACKS = frozenset(
    (
        *("n", "best_of", "use_beam_search", "num_completions", "candidate_count"),
        *("service_tier", "priority", "speed", "store", "background", "prompt_cache_retention"),
        *("models", "route", "provider", "fallbacks", "extra_body", "preset"),
        *("plugins", "web_search_options", "search_parameters", "search_settings", "web_search"),
        *("compound_custom", "data_sources", "documents", "modalities", "audio"),
        *("logprobs", "top_logprobs", "prompt_logprobs", "echo", "prediction", "ignore_eos"),
        *("min_tokens", "max_output_tokens", "max_new_tokens", "max_tokens_to_sample"),
        *("max_length", "min_length", "num_predict", "num_ctx", "options", "keep_alive"),
        *("thinking", "thinking_budget", "reasoning"),
    )
)
_OURS = ("model", "stream", "stream_options", *TOKENS_FIELDS)
# Of these the stack's own count first, and else the caller's.
_STACKS_FIRST = ("reasoning_effort", "verbosity")
# Tools of other types run at the provider.
_TOOL_TYPES = ("function", "custom")


def limited(body: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The request with `parameters` of the stack, without what would raise its cost.

    Some servers take names of fields in any case, as Go does.
    """
    made = dict(parameters)
    for name, value in body.items():
        folded = name.casefold()
        if folded in STACKS or (folded != name and folded in _KNOWN):
            continue
        if name in _STACKS_FIRST and name in parameters:
            continue
        made[name] = value
    if "stream" in body:
        made["stream"] = bool(body["stream"])
    made.pop("stream_options", None)
    if made.get("stream"):
        # The client gets the usage only if it asked for it.
        made["stream_options"] = {"include_usage": True}
    tools = made.get("tools")
    if isinstance(tools, list):
        made["tools"] = [tool for tool in tools if _runs_here(tool)]
        if tools and not made["tools"]:
            made.pop("tools")
            made.pop("tool_choice", None)
    return made


_KNOWN = STACKS.union(
    _OURS, _STACKS_FIRST, ("messages", "tools", "tool_choice", "functions", "function_call")
)


def _runs_here(tool: Any) -> bool:
    """A tool without a type, or with a broken one, is the provider's to reject."""
    if not isinstance(tool, dict):
        return True
    folded = [value for name, value in tool.items() if name.casefold() == "type"]
    return all(value in _TOOL_TYPES for value in folded)


def token_limit(body: Mapping[str, Any], most: int) -> int:
    """The limit of completion tokens: the lowest of the caller's, and at most the stack's; 0: none.

    Values that are not a number of tokens count as not given.
    """
    given = [value for name in TOKENS_FIELDS if (value := _count(body.get(name)))]
    return min([*given, *([most] if most else [])], default=0)


def _count(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return min(value, MAX_TOKENS) if type(value) is int and value > 0 else 0
