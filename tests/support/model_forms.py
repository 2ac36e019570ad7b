"""The forms in which real models write a tool call: near misses of the API, and calls as text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

from tests.support.model_step import Arguments

Message = dict[str, Any]
Form = Callable[[Arguments], Message]
_ids = itertools.count(1)


def call(arguments: Any, name: str = "call_api", **more: Any) -> dict[str, Any]:
    """A tool call; `arguments` as they are."""
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{next(_ids)}", "type": "function", "function": function} | more


def calls(*made: dict[str, Any], content: Any = None, **more: Any) -> Message:
    return {"role": "assistant", "content": content, "tool_calls": list(made)} | more


def text(content: Any, **more: Any) -> Message:
    return {"role": "assistant", "content": content} | more


def raw(arguments: Any) -> Message:
    return calls(call(arguments))


def proper(step: Arguments, **more: Any) -> Message:
    return calls(call(json.dumps(step)), **more)


def _body_text(step: Arguments) -> Message:
    return proper(step | ({"body": json.dumps(step["body"])} if "body" in step else {}))


def _all_but_method(step: Arguments) -> Arguments:
    return {name: value for name, value in step.items() if name != "method"}


def own_host(url: str) -> Form:
    """Paths with the target's own address."""
    return lambda step: proper(step | {"path": url + step["path"]})


# Sent as tool calls. The kinds of repair that each counts as are in test_model_cases.
NEAR_MISSES: dict[str, Form] = {
    "encoded_twice": lambda s: raw(json.dumps(json.dumps(s))),
    "encoded_three_times": lambda s: raw(json.dumps(json.dumps(json.dumps(s)))),
    "words_after": lambda s: raw(json.dumps(s) + "\n\nThat is the next step."),
    "words_before": lambda s: raw("Here is the request: " + json.dumps(s)),
    "fenced_arguments": lambda s: raw(f"```json\n{json.dumps(s)}\n```"),
    "twice_in_a_row": lambda s: raw(json.dumps(s) * 2),
    "end_token": lambda s: raw(json.dumps(s) + "<|eot_id|>"),
    "python_literal": lambda s: raw(repr(s)),
    "trailing_comma": lambda s: raw(json.dumps(s)[:-1] + ",}"),
    "line_break_in_text": lambda s: raw(json.dumps(s)[:-1] + ', "reason": "one\ntwo"}'),
    "object": lambda s: raw(s),
    "nested_parameters": lambda s: proper({"name": "call_api", "parameters": s}),
    "nested_arguments": lambda s: proper({"name": "call_api", "arguments": s}),
    "nested_text": lambda s: proper({"name": "call_api", "arguments": json.dumps(s)}),
    "nested_request": lambda s: proper({"request": s}),
    "nested_tool_name": lambda s: proper({"call_api": s}),
    "nested_in_a_list": lambda s: raw(json.dumps([s])),
    "upper_case_keys": lambda s: proper({name.upper(): value for name, value in s.items()}),
    "title_case_keys": lambda s: proper({name.title(): value for name, value in s.items()}),
    "key_url": lambda s: proper({("url" if k == "path" else k): v for k, v in s.items()}),
    "keys_of_the_gateway": lambda s: proper(
        {
            {"method": "http_method", "path": "endpoint_path"}.get(k, "request_payload"): v
            for k, v in s.items()
        }
    ),
    "key_data": lambda s: proper({("data" if k == "body" else k): v for k, v in s.items()}),
    "body_text": _body_text,
    "body_null": lambda s: proper({"body": None} | s),
    "body_empty_text": lambda s: proper({"body": ""} | s),
    "no_slash": lambda s: proper(s | {"path": s["path"].lstrip("/")}),
    "blanks_around": lambda s: proper({k: f" {v} " if k != "body" else v for k, v in s.items()}),
    "line_break_after_path": lambda s: proper(s | {"path": s["path"] + "\n"}),
    "method_in_path": lambda s: proper(s | {"path": f"{s['method']} {s['path']}"}),
    "method_only_in_path": lambda s: proper(
        _all_but_method(s) | {"path": f"{s['method']} {s['path']}"}
    ),
    "lower_case_method": lambda s: proper(s | {"method": s["method"].lower()}),
    "other_tool_name": lambda s: calls(call(json.dumps(s), "http_request")),
    "prefixed_tool_name": lambda s: calls(call(json.dumps(s), "functions.call_api")),
    "tool_name_with_token": lambda s: calls(call(json.dumps(s), "call_api<|channel|>commentary")),
    "function_call": lambda s: text(
        None, function_call={"name": "call_api", "arguments": json.dumps(s)}
    ),
    "empty_id": lambda s: calls(call(json.dumps(s), id="")),
    "null_id": lambda s: calls(call(json.dumps(s), id=None)),
    "no_type": lambda s: calls(
        {k: v for k, v in call(json.dumps(s)).items() if k != "type"}, content=""
    ),
    "same_id_each_time": lambda s: calls(call(json.dumps(s), id="call_0")),
}


def _named(step: Arguments, key: str = "arguments") -> str:
    return json.dumps({"name": "call_api", key: step})


def _xml(step: Arguments) -> str:
    """As Qwen's coders write it."""
    lines = [
        f"<parameter={name}>\n{value}\n</parameter>"
        for name, value in (step | {"body": json.dumps(step.get("body"))}).items()
    ]
    return "<tool_call>\n<function=call_api>\n" + "\n".join(lines) + "\n</function>\n</tool_call>"


def _pythonic(step: Arguments) -> str:
    """As Llama 4 writes it."""
    return "[call_api(" + ", ".join(f"{name}={value!r}" for name, value in step.items()) + ")]"


_HARMONY = "<|channel|>commentary to=functions.call_api <|constrain|>json<|message|>"
_DEEPSEEK = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>call_api\n```json\n"  # noqa: RUF001
_DEEPSEEK_END = "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"  # noqa: RUF001

# The content of a message without tool calls.
TEXT_CALLS: dict[str, Callable[[Arguments], Any]] = {
    "text_parameters": lambda s: _named(s, "parameters"),
    "text_typed": lambda s: json.dumps({"type": "function", "name": "call_api", "arguments": s}),
    "text_function": lambda s: json.dumps(
        {"type": "function", "function": {"name": "call_api", "arguments": json.dumps(s)}}
    ),
    "text_tool_calls": lambda s: json.dumps({"tool_calls": [call(json.dumps(s))]}),
    "text_list": lambda s: f"[{_named(s)}]",
    "text_arguments": lambda s: json.dumps(s),
    "text_tool_input": lambda s: json.dumps({"tool": "call_api", "tool_input": s}),
    "text_fenced": lambda s: f"I continue.\n```json\n{_named(s)}\n```",
    "text_fenced_plain": lambda s: f"```\n{json.dumps(s)}\n```\nThat is the next request.",
    "text_fenced_tool_call": lambda s: f"```tool_call\n{_named(s)}\n```",
    "text_words_before": lambda s: f"I will do the next step now: {_named(s)}",
    "text_hermes": lambda s: f"<tool_call>\n{_named(s)}\n</tool_call>",
    "text_hermes_open": lambda s: f"I go on. <tool_call>{_named(s)}",
    "text_hermes_twice_encoded": lambda s: (
        "<tool_call>"
        + json.dumps({"name": "call_api", "arguments": json.dumps(s)})
        + "</tool_call>"
    ),
    "text_hermes_words_after": lambda s: (
        f"<tool_call>\n{_named(s)}\n</tool_call>\nI will now wait for the answer."
    ),
    "text_python_literal": lambda s: repr({"name": "call_api", "arguments": s}),
    "text_think": lambda s: f"<think>The user wants {{a thing}}.</think>\n{_named(s)}",
    "text_think_end_only": lambda s: f"I must go on.\n</think>\n\n{_named(s)}",
    "text_python_tag": lambda s: "<|python_tag|>" + _named(s, "parameters"),
    "text_llama_function": lambda s: f"<function=call_api>{json.dumps(s)}</function>",
    "text_mistral": lambda s: f"[TOOL_CALLS][{_named(s)}]",
    "text_mistral_args": lambda s: f"[TOOL_CALLS]call_api[ARGS]{json.dumps(s)}",
    "text_xml": _xml,
    "text_pythonic": _pythonic,
    "text_harmony": lambda s: f"{_HARMONY}{json.dumps(s)}<|call|>",
    "text_deepseek": lambda s: f"{_DEEPSEEK}{json.dumps(s)}{_DEEPSEEK_END}",
    "text_react": lambda s: (
        f"Thought: the next step.\nAction: call_api\nAction Input: {json.dumps(s)}"
    ),
    "text_parts": lambda s: [{"type": "text", "text": _named(s)}],
}

# Right as they are.
FINE: dict[str, Form] = {
    "fine": proper,
    "fine_finish_stop": proper,
    "fine_with_text": lambda s: proper(s, content="I go on."),
    "fine_with_parts": lambda s: proper(s, content=[{"type": "text", "text": "I go on."}]),
    "fine_with_think": lambda s: proper(s, content="<think>I must go on.</think>\n"),
    "fine_with_reasoning": lambda s: proper(s, reasoning="I must go on."),
    "fine_with_reasoning_content": lambda s: proper(s, content="", reasoning_content="I must …"),
    "fine_with_reasoning_details": lambda s: proper(
        s, reasoning_details=[{"type": "reasoning.text", "text": "I must go on."}]
    ),
    "fine_with_nulls": lambda s: proper(
        s, refusal=None, annotations=[], audio=None, function_call=None, reasoning_content=None
    ),
    "fine_with_index": lambda s: calls(call(json.dumps(s), index=0)),
    "fine_with_more_arguments": lambda s: proper(s | {"headers": {}, "reason": "the next step"}),
}
