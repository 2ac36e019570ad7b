"""Requests in the form that a provider takes: laws, and each field of a profile."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_contracts.providers import PROVIDERS, REASONING_FIELDS
from ape_contracts.service_settings import ProxySettings
from ape_proxy.costs import TOKENS_FIELDS
from ape_proxy.shaping import Shape, shape_of, shaped

pytestmark = pytest.mark.unit
NAMES = ("temperature", "seed", "top_p", "tool_choice", "stream_options", *TOKENS_FIELDS)
THOUGHTS = dict.fromkeys(REASONING_FIELDS, "hm")
values = st.one_of(st.integers(1, 9), st.sampled_from(["a", "b"]))
some = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)
calls = st.lists(
    st.fixed_dictionaries({"id": st.just("c")}, optional=dict.fromkeys(REASONING_FIELDS, values)),
    max_size=2,
)
messages = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": st.sampled_from(["user", "tool", "system"])}),
        st.fixed_dictionaries(
            {"role": st.just("assistant"), "content": st.just("x"), "tool_calls": calls},
            optional=dict.fromkeys(REASONING_FIELDS, values),
        ),
        # What a broken client sends is the provider's to reject.
        st.sampled_from([None, 7, "text", {"role": "assistant", "tool_calls": [None, 7]}]),
    ),
    max_size=4,
)
bodies = st.builds(lambda fields, said: fields | {"messages": said}, some, messages)
subset = st.lists(st.sampled_from(REASONING_FIELDS), unique=True).map(tuple)
shapes = st.builds(
    Shape,
    tokens_field=st.sampled_from([*TOKENS_FIELDS, ""]),
    max_tokens=st.integers(0, 9),
    omit=st.lists(st.sampled_from(NAMES), max_size=3).map(tuple),
    parameters=some,
    echo=subset,
    tool_choice=st.booleans(),
    renamed=st.sampled_from([{}, {"seed": "random_seed"}]),
)


@given(bodies, shapes)
def test_shaped_request_has_nothing_that_the_provider_refuses(
    body: dict[str, Any], shape: Shape
) -> None:
    before = copy.deepcopy(body)
    made = shaped(body, shape)
    assert body == before, "the caller's request stays as it is, for the recording"
    assert shaped(made, shape) == made, "shaping it again changes nothing"
    assert not made.keys() & {*shape.omit, *shape.renamed}
    assert {k for k in TOKENS_FIELDS if k in made} <= {shape.tokens_field}
    assert shape.tool_choice or "tool_choice" not in made
    assert len(made["messages"]) == len(body["messages"])
    refused = set(REASONING_FIELDS) - set(shape.echo)
    for old, new in zip(body["messages"], made["messages"], strict=True):
        if not isinstance(old, dict) or old["role"] != "assistant":
            assert new == old
            continue
        assert new.keys() == old.keys() - refused
        for call in new["tool_calls"]:
            assert not isinstance(call, dict) or not call.keys() & refused


@given(bodies, shapes)
def test_shaped_request_has_the_callers_fields_before_those_of_the_settings(
    body: dict[str, Any], shape: Shape
) -> None:
    made = shaped(body, shape)
    for name in {"temperature", "top_p"} - {*shape.omit}:
        if name in {*body, *shape.parameters}:
            assert made[name] == body.get(name, shape.parameters.get(name))
        else:
            assert name not in made
    if shape.tokens_field and shape.tokens_field not in shape.omit:
        own, stacks = ([at[k] for k in TOKENS_FIELDS if k in at] for at in (body, shape.parameters))
        numbers = [n for n in own if isinstance(n, int)]
        most = (
            [shape.max_tokens] if shape.max_tokens else [n for n in stacks if n not in ("a", "b")]
        )
        wanted = [*numbers, *most]
        assert made.get(shape.tokens_field) == (min(wanted) if wanted else None)


def test_limit_of_tokens_gets_the_name_that_the_provider_knows() -> None:
    for name in TOKENS_FIELDS:
        made = shaped({"messages": [], name: 3}, Shape("max_tokens", max_tokens=5))
        assert made == {"messages": [], "max_tokens": 3}
    assert shaped({"messages": []}, Shape("max_tokens", 5)) == {"messages": [], "max_tokens": 5}
    assert shaped({"messages": []}, Shape("max_tokens")) == {"messages": []}
    assert shaped({"messages": [], "max_tokens": 9}, Shape("", 5)) == {"messages": []}


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(
    "given_",
    [6, 1_000_000, 1_000_000.0, "1000000", -1, 0, True, None, [9], 10**400, float("nan"), 2.5],
)
def test_limit_of_tokens_is_at_most_the_stacks_whatever_type_it_has(
    field: str, given_: object
) -> None:
    for more in (
        {},
        dict.fromkeys(TOKENS_FIELDS, 999),
        {"Max_Tokens": 999},
        {"max_to\u212aens": 9},
    ):
        made = shaped({"messages": [], field: given_} | more, Shape(field, max_tokens=5))
        assert made == {"messages": [], field: 5}
    assert shaped({"messages": [], field: 3.0, "n": 2}, Shape(field, max_tokens=5)) == {
        "messages": [],
        field: 3,
    }


DEARER: dict[str, Any] = {
    "n": 50,
    "best_of": 50,
    "N": 50,
    "service_tier": "priority",
    "Service_Tier": "priority",
    "logprobs": True,
    "top_logprobs": 20,
    "prediction": {"type": "content", "content": "x"},
    "models": ["dearer"],
    "web_search_options": {},
    "max_output_tokens": 10**6,
    "min_tokens": 10**6,
    "ignore_eos": True,
    "options": {"num_predict": -1},
    "stream_options": {"include_usage": False},
    "Stream": True,
    "modalities": ["text", "audio"],
    "tools": [{"type": "web_search_preview"}],
    "tool_choice": "required",
}


@pytest.mark.parametrize("name", DEARER)
def test_field_that_makes_a_request_dearer_is_the_stacks(name: str) -> None:
    shape = Shape("max_tokens", max_tokens=5, model="llama")
    body = {"model": "gpt-dear", "Model": "gpt-dear", "messages": [], "seed": 1, name: DEARER[name]}
    made = shaped(body, shape)
    made.pop("tool_choice", None)
    assert made == {"model": "llama", "messages": [], "seed": 1, "max_tokens": 5}
    own = Shape("max_tokens", 5, parameters={"n": 2, "service_tier": "flex"}, model="llama")
    made = shaped(body, own)
    assert (made["n"], made["service_tier"]) == (2, "flex"), "the stack's own count"


def test_stream_has_its_usage_whatever_the_caller_asks_for() -> None:
    for options in (None, {"include_usage": False}, {"include_usage": True, "more": 1}, 7):
        made = shaped({"messages": [], "stream": 1, "stream_options": options}, Shape())
        assert made == {
            "messages": [],
            "stream": True,
            "stream_options": {"include_usage": True},
        }


def test_reasoning_is_carried_back_only_where_the_provider_asks_for_it() -> None:
    said = {"role": "assistant", "content": "a", "tool_calls": [{"id": "c"} | THOUGHTS]} | THOUGHTS
    for echo in ((), ("reasoning_details",), ("extra_content", "reasoning_content")):
        (made,) = shaped({"messages": [said]}, Shape(echo=echo))["messages"]
        kept = dict.fromkeys(echo, "hm")
        assert (
            made
            == {
                "role": "assistant",
                "content": "a",
                "tool_calls": [{"id": "c"} | kept],
            }
            | kept
        )


def test_field_that_each_message_must_have_is_filled() -> None:
    shape = Shape(echo=("reasoning_content",), filled=("reasoning_content",))
    said = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "assistant", "content": "c", "reasoning_content": ""},
        {"role": "assistant", "content": "d", "reasoning_content": "hm"},
    ]
    made = shaped({"messages": said}, shape)["messages"]
    assert [m.get("reasoning_content") for m in made] == [None, " ", " ", "hm"]


def test_shape_is_that_of_the_settings_with_the_names_of_the_profile() -> None:
    settings = ProxySettings(
        provider="mistral", tokens_field="max_tokens", max_tokens=7, omit=["user"], echo=[]
    )
    made = shape_of(settings)
    assert (made.tokens_field, made.max_tokens, made.omit) == ("max_tokens", 7, ("user",))
    assert made.renamed == PROVIDERS["mistral"].renamed
    deepseek = ProxySettings(provider="deepseek", echo=["reasoning_content"])
    assert shape_of(deepseek).filled == ("reasoning_content",)
    assert shape_of(ProxySettings(provider="deepseek")).filled == (), "it is not echoed"
    assert shape_of(ProxySettings(provider="one of the user's")).renamed == {}
