"""What the agent makes of the model's messages: calls, repairs, problems, and the history."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_agent import loose
from ape_agent.calls import Target
from ape_agent.decisions import MAX_CALLS, Decision, decide
from ape_agent.tools import Toolbox
from ape_contracts import metrics
from ape_contracts.operations import Body, Operation, Parameter
from ape_contracts.service_settings import AgentSettings
from tests.support.agent_world import call

pytestmark = pytest.mark.unit

LOGIN = {"method": "POST", "path": "/login", "body": {"username": "a", "n": 0}}
TEXT = json.dumps(LOGIN)
NAMED = {"name": "call_api", "arguments": LOGIN}
TARGET = Target("target:8080/shop", ("/login", "/products/{id}"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def ids() -> Callable[[str], str]:
    fresh = itertools.count()
    return lambda given: given or f"new-{next(fresh)}"


def toolbox(target: Target, **more: Any) -> Toolbox:
    """The tools of a target whose endpoints have these paths."""
    endpoints = [{"method": "GET", "path": path} for path in target.templates]
    settings = AgentSettings(
        gateway_url="http://g",
        proxy_url="http://p",
        goal="Buy.",
        api="shop",
        success={"method": "GET", "path": "/", "status": 200},
        target_host=target.host,
    )
    return Toolbox(settings, endpoints, **more)


TOOLS = toolbox(TARGET)
BUY = Operation(
    id="buy",
    method="POST",
    path="/{what}",
    parameters=(
        Parameter(name="what", location="path"),
        Parameter(name="how", location="query", schema={"type": "object"}),
        Parameter(name="when", location="header"),
    ),
    body=Body(content_type="multipart/form-data"),
)
TYPED = toolbox(TARGET, operations=[BUY])


def decided(message: dict[str, Any], tools: Toolbox = TOOLS) -> Decision:
    return decide(message, tools, ids())


def said(content: Any) -> Decision:
    return decided({"role": "assistant", "content": content})


def problem(arguments: Any) -> str:
    """The problem of a call with these arguments, which the history must not carry."""
    (made,) = (found := decided(call(arguments))).calls
    assert made.request is None
    assert found.message["tool_calls"][0]["function"]["arguments"] == "{}"
    assert found.repairs == ()
    return made.problem


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (json.dumps(TEXT), "encoded_twice"),
        (json.dumps(json.dumps(TEXT)), "encoded_twice"),
        (TEXT.replace('"', '\\"'), "text_around"),
        (TEXT + "\n\nThat logs us in.", "text_around"),
        (json.dumps(TEXT) + " That logs us in.", "text_around"),
        ("First: " + TEXT, "text_around"),
        (f"```json\n{TEXT}\n```", "text_around"),
        (TEXT + TEXT, "text_around"),
        (json.dumps({"name": "call_api", "arguments": LOGIN})[:-1], "text_around"),
        (str(LOGIN), "syntax"),
        (TEXT.replace("}", ",}"), "syntax"),
        ("{method: 'POST', path: '/login', body: {username: 'a', n: 0}}", "syntax"),
        ({"name": "call_api", "parameters": LOGIN}, "nested"),
        ({"arguments": LOGIN}, "nested"),
        ({"arguments": TEXT}, "nested"),
        ({"function": {"name": "call_api", "arguments": LOGIN}}, "nested"),
        ([LOGIN], "nested"),
        ({"method": "POST", "request": {"path": "/login", "body": LOGIN["body"]}}, "nested"),
        ({"http_method": "POST", "url": "/login", "data": LOGIN["body"]}, "nested"),
        (LOGIN | {"body": json.dumps(LOGIN["body"])}, "body_text"),
        (LOGIN | {"body": json.dumps(json.dumps(LOGIN["body"]))}, "body_text"),
        (LOGIN | {"path": "login"}, "path"),
        (LOGIN | {"path": " /login\n"}, "path"),
        (LOGIN | {"path": "http://target:8080/login"}, "host"),
        (LOGIN | {"path": "https://TARGET/shop/login"}, "host"),
        (LOGIN | {"path": "//target:8080/login"}, "host"),
        (LOGIN | {"path": "target:8080/login"}, "host"),
        (LOGIN | {"path": "POST /login"}, "method"),
        ({k: v for k, v in LOGIN.items() if k != "method"} | {"path": "POST /login"}, "method"),
        (LOGIN | {"path": "POST /login HTTP/1.1"}, "method"),
        (LOGIN | {"method": "POST /login"}, "method"),
        (LOGIN | {"method": "post"}, "method"),
    ],
)
def test_call_that_nearly_fits_is_put_right_and_named_by_its_kind(
    arguments: Any, kind: str
) -> None:
    found = decided(call(arguments))
    assert [c.request and c.request.arguments() for c in found.calls] == [LOGIN]
    assert kind in found.repairs
    assert set(found.repairs) <= set(metrics.REPAIR_KINDS)
    assert json.loads(found.message["tool_calls"][0]["function"]["arguments"]) == LOGIN


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"arguments": LOGIN}, "object"),
        ({"arguments": TEXT, "name": "http_request"}, "tool_name"),
    ],
)
def test_call_of_another_form_is_put_right(change: dict[str, Any], kind: str) -> None:
    message = call(TEXT)
    message["tool_calls"][0]["function"] |= change
    found = decided(message)
    assert found.repairs == (kind,)
    assert found.message["tool_calls"][0]["function"]["name"] == "call_api"
    assert [c.request and c.request.arguments() for c in found.calls] == [LOGIN]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(NAMED),
        json.dumps({"type": "function", "name": "call_api", "parameters": LOGIN}),
        json.dumps({"name": "call_api", "arguments": TEXT}),
        json.dumps({"tool_calls": [{"function": NAMED}]}),
        json.dumps({"action": "call_api", "action_input": LOGIN}),
        json.dumps(json.dumps(NAMED)),
        TEXT,
        f"I will log in.\n```json\n{json.dumps(NAMED)}\n```\nThen I look.",
        f"<tool_call>\n{json.dumps(NAMED)}\n</tool_call>",
        f"<think>I must {{log in}}: {TEXT.replace('login', 'logout')}</think>\n{json.dumps(NAMED)}",
        f"I must log in first.</think>{TEXT}",
        f"<|python_tag|>{json.dumps(NAMED)}",
        f"[TOOL_CALLS] [{json.dumps(NAMED)}]",
        f"[TOOL_CALLS]call_api[ARGS]{TEXT}",
        f"<function=call_api>{TEXT}</function>",
        f"Action: call_api\nAction Input: {TEXT}",
        'call_api(method="POST", path="/login", body={"username": "a", "n": 0})',
        "[call_api(method='POST', path='/login', body={'username': 'a', 'n': 0})]",
        'print(default_api.call_api("POST", "/login", {"username": "a", "n": 0}))',
        "<function=call_api><parameter=method>POST</parameter>\n<parameter=path>\n/login\n"
        '</parameter><parameter=body>{"username": "a", "n": 0}</parameter></function>',
        "<tool_call>call_api\n<arg_key>method</arg_key>\n<arg_value>POST</arg_value>"
        "<arg_key>path</arg_key><arg_value>/login</arg_value><arg_key>body</arg_key>"
        '<arg_value>{"username": "a", "n": 0}</arg_value></tool_call>',
        [{"type": "text", "text": json.dumps(NAMED)}],
        "<think>" + "long " * 20_000 + "</think>" + TEXT,
    ],
)
def test_call_in_the_text_is_a_call(content: Any) -> None:
    found = said(content)
    assert [c.request and c.request.arguments() for c in found.calls] == [LOGIN]
    assert found.repairs[0] == "text_call"
    (kept,) = found.message["tool_calls"]
    assert json.loads(kept["function"]["arguments"]) == LOGIN
    assert found.message["content"] is None


def test_call_of_the_former_api_is_a_call() -> None:
    message = {"content": None, "function_call": {"name": "call_api", "arguments": TEXT}}
    found = decided(message)
    assert found.repairs == ("text_call",)
    assert "function_call" not in found.message
    assert len(found.message["tool_calls"]) == 1


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "I cannot continue: POST /login answered 401.",
        'The order is placed: {"order_id": "o-1", "items": [{"id": 3}]}.',
        'I used the tool "call_api" and call_api (GET) to do it.',
        "<think>" + TEXT,
        [{"type": "text", "text": "I give up."}],
        7,
    ],
)
def test_words_are_not_a_call(content: Any) -> None:
    found = said(content)
    assert found.calls == ()
    assert "tool_calls" not in found.message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('{"method": "POST", "path": "/lo', "not valid JSON: Unterminated string"),
        ('{"method": "POST", "path": "/login", "body": {"username": "a"', "char 61"),
        ('{"method": POST', "char 11"),
        ("", "empty"),
        (" ", "empty"),
        ("null", "not a JSON object"),
        ("7", "not a JSON object"),
        ("{}", "hold neither"),
        ({"method": "GET"}, "path is missing"),
        ({"path": "/login"}, "method is missing"),
        ({"method": "GET", "path": 7}, "path must be a text"),
        ({"method": 7, "path": "/"}, "method must be a text"),
        ({"method": "GET it", "path": "/"}, "a word such as GET"),
        ({"method": "POST", "path": "GET /login"}, "the path begins with GET"),
        ({"method": "GET", "path": "http://other.example/login"}, "another host"),
        ({"method": "GET", "path": "http://target:9/login"}, "another host"),
        ({"method": "GET", "path": "http://[/login"}, "another host"),
        ('{"method": "POST", "path": "/", "body": NaN}', "NaN is not a JSON value"),
        ('{"method": "POST", "path": "/", "body": 1e999}', "too large"),
        ('{"method": "POST", "path": "/", "body": ' + "[" * 99 + "]" * 99 + "}", "too deeply"),
        ("x" * (loose.MAX_CHARS + 1), "longer than"),
    ],
)
def test_problem_of_a_call_is_stated_as_it_is(arguments: Any, words: str) -> None:
    assert words in problem(arguments)


def test_broken_call_in_the_text_is_a_call_with_a_problem() -> None:
    for content in ('<tool_call>{"name": "call_api", "arguments": {"method": "GE', TEXT[:-2]):
        (made,) = said(content).calls
        assert "not valid JSON" in made.problem


def test_url_counts_as_the_targets_by_an_endpoint_where_the_host_is_unknown() -> None:
    unknown = toolbox(Target("", TARGET.templates))
    for path, wanted in [("/products/1?q=2", "/products/1?q=2"), ("/admin", None)]:
        (made,) = decided(call({"method": "GET", "path": f"http://x:1{path}"}), unknown).calls
        assert (made.request and made.request.path) == wanted


def test_query_apart_from_the_path_is_sent() -> None:
    (get,) = decided(call({"method": "GET", "path": "/p", "query": {"q": "a b"}})).calls
    assert get.request is not None
    assert (get.request.path, get.request.query) == ("/p", {"q": "a b"})
    (post,) = decided(call({**LOGIN, "params": {"q": ["a", 1]}})).calls
    assert post.request is not None
    assert (post.request.path, post.request.query) == ("/login", {"q": ["a", 1]})
    (text,) = decided(call({**LOGIN, "query": "?q=a"})).calls
    assert text.request is not None
    assert (text.request.path, text.request.query) == ("/login?q=a", {})


WITH_MORE = LOGIN | {"headers": {"X-Key": "k"}, "content_type": "text/csv"}


@pytest.mark.parametrize(
    "arguments",
    [
        WITH_MORE,
        LOGIN | {"headers": {"X-Key": "k", "Content-Type": "text/csv"}},
        LOGIN | {"headers": "X-Key: k\nContent-Type: text/csv"},
        LOGIN | {"request_headers": {"X-Key": "k"}, "contentType": "text/csv"},
        LOGIN | {"headers": {"X-Key": ["k"], "X-No": None}, "mime_type": " text/csv"},
    ],
)
def test_headers_and_content_type_are_sent_in_whatever_form_they_came(arguments: Any) -> None:
    text = arguments | {"body": "a;b"}
    (made,) = decided(call(text)).calls
    assert made.request is not None
    assert made.request.arguments() == WITH_MORE | {"body": "a;b"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"headers": ["X-Key"]}, "headers: must be an object"),
        ({"headers": {"X": {"a": 1}}}, "headers: the value of X must be a text"),
        ({"headers": {"X\n": "a"}}, "characters that headers cannot have"),
        ({"headers": {"X": "a\r\nY: b"}}, "characters that headers cannot have"),
        ({"content_type": "json"}, "content_type: must be a type"),
        ({"content_type": "a/b\r\nX: y"}, "content_type: must be a type"),
        ({"content_type": "multipart/form-data", "body": [1]}, "body: must be an object"),
        ({"query": {"a": {"b": 1}}}, "query: a must be a text"),
        ({"query": 7}, "query: must be an object"),
    ],
)
def test_headers_query_and_content_type_that_cannot_be_sent_are_stated(
    more: dict[str, Any], words: str
) -> None:
    assert words in problem(LOGIN | more)


def test_text_that_looks_like_json_stays_text_where_its_type_is_text() -> None:
    (made,) = decided(call(LOGIN | {"content_type": "text/plain", "body": "[1]"})).calls
    assert made.request is not None
    assert made.request.body == "[1]"
    (made,) = decided(call(LOGIN | {"content_type": "application/json"})).calls
    assert made.request is not None
    assert made.request.content_type == ""


def test_calls_are_bounded_and_have_ids() -> None:
    message = call(TEXT, None)
    message["tool_calls"] *= 50
    found = decided(message)
    assert len(found.calls) == len(found.message["tool_calls"]) == MAX_CALLS
    assert [c.id for c in found.calls] == [c["id"] for c in found.message["tool_calls"]]
    assert len({c.id for c in found.calls}) == MAX_CALLS


def test_history_keeps_what_providers_ask_for_within_a_bound() -> None:
    message = call(TEXT, reasoning="I must.", refusal=None, annotations=[], audio={"id": "x"})
    message["tool_calls"][0] |= {"index": 0, "extra_content": {"google": {"signature": "abc"}}}
    kept = decided(message).message
    assert kept == {
        "role": "assistant",
        "content": None,
        "reasoning": "I must.",
        "tool_calls": [
            {
                "id": "c",
                "type": "function",
                "function": {"name": "call_api", "arguments": TEXT},
                "extra_content": {"google": {"signature": "abc"}},
            }
        ],
    }
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    huge = call(TEXT, reasoning="x" * 2_000_000, deep=deep, content="y" * 2_000_000)
    assert len(json.dumps(decided(huge).message)) < 100_000


def test_history_has_no_halves_of_surrogate_pairs() -> None:
    body = (
        '{"method": "POST", "path": "/login", "body": {"name": "\\ud83d", "all": "\\ud83d\\ude00"}}'
    )
    found = decided(call(body, content="\ud83d", reasoning=["\ud83d"]))
    text = json.dumps(found.message, ensure_ascii=False)
    text.encode()
    arguments = json.loads(found.message["tool_calls"][0]["function"]["arguments"])
    assert arguments["body"] == {"name": "?", "all": "\U0001f600"}


@given(message=JSON, arguments=JSON, function=JSON, content=JSON)
def test_any_message_is_decided(message: Any, arguments: Any, function: Any, content: Any) -> None:
    calls = [
        arguments,
        {"id": message, "function": function},
        {"function": {"name": content, "arguments": arguments}},
        {"function": {"name": "call_api", "arguments": json.dumps(arguments)}},
    ]
    calls.append({"function": {"name": "buy", "arguments": json.dumps(arguments)}})
    for raw in (calls, arguments, [], None):
        message = {"content": content, "tool_calls": raw, "function_call": function}
        found = decided(message, TYPED if raw is calls else TOOLS)
        json.dumps(found.message, allow_nan=False).encode()
        kept = found.message.get("tool_calls", [])
        assert len(kept) == len(found.calls)
        for entry, made in zip(kept, found.calls, strict=True):
            assert isinstance(json.loads(entry["function"]["arguments"]), dict)
            assert (made.request is None) == bool(made.problem or made.search)


@pytest.mark.parametrize(
    "part",
    [
        "{",
        '{"a":',
        "{a:",
        '{"a": 1, ',
        "[",
        "'",
        '"',
        "\\",
        "call_api(",
        "f(a=",
        "<think>",
        "{'a': '",
    ],
)
def test_hostile_texts_are_read_in_bounded_time(part: str) -> None:
    text = part * (200_000 // len(part))
    started = time.process_time()
    decided({"content": text, "tool_calls": None})
    decided(call(text[: loose.MAX_CHARS]))
    assert time.process_time() - started < 1.0
