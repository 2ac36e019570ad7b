"""Where agents follow redirects to, and what they show of answers."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ape_agent.answers import shown
from ape_agent.calls import Request, Target
from ape_agent.parts import with_cookies
from ape_agent.redirects import next_request

pytestmark = pytest.mark.unit
SHOP = Target("shop.example:8080")
BELOW = Target("shop.example/api")
POST = Request("POST", "/a/b?x=1", {"n": 1}, {"X-Key": "k"}, query={"q": 1}, content_type="t/x")


def followed(
    location: Any, status: int = 303, request: Request = POST, target: Target = SHOP
) -> Request | None:
    return next_request(request, status, {"location": location}, target)


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [
        ("POST", 303, "GET"),
        ("PUT", 303, "GET"),
        ("HEAD", 303, "HEAD"),
        ("POST", 301, "GET"),
        ("POST", 302, "GET"),
        ("PUT", 302, "PUT"),
        ("POST", 307, "POST"),
        ("DELETE", 308, "DELETE"),
        ("GET", 302, "GET"),
    ],
)
def test_redirect_changes_method_and_body_as_browsers_do(
    method: str, status: int, then: str
) -> None:
    made = followed("/new", status, Request(method, "/a", {"n": 1}, content_type="t/x"))
    assert made is not None
    keeps = then == method and method not in ("GET", "HEAD")
    assert (made.method, made.path) == (then, "/new")
    assert (made.body, made.content_type) == (({"n": 1}, "t/x") if keeps else (None, ""))


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/new?y=2#part", "/new?y=2"),
        ("next", "/a/next"),
        ("../up", "/up"),
        ("?y=2", "/a/b?y=2"),
        ("http://shop.example:8080/new", "/new"),
        ("//SHOP.example:8080/new", "/new"),
        ("/gr\u00fcn b", "/gr%C3%BCn%20b"),
        ("/a%2Bb", "/a%2Bb"),
        ("https://shop.example:8080", "/"),
        ("http://elsewhere.example/new", None),
        ("http://shop.example:9/new", None),
        ("http://shop.example:8080@elsewhere.example/new", None),
        ("//elsewhere.example", None),
        ("javascript:alert(1)", None),
        ("http://[/", None),
        ("/%2e%2e/x", None),
        ("/" + "x" * 9000, None),
        (None, None),
    ],
)
def test_redirect_is_followed_within_the_target_only(location: Any, path: str | None) -> None:
    made = followed(location)
    assert (made and made.path) == path
    assert made is None or (made.query, made.headers) == ({}, POST.headers)


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/api/new", "/new"),
        ("http://shop.example/api/new", "/new"),
        ("/api", "/"),
        ("c", "/a/c"),
        ("/apis", None),
        ("/new", None),
    ],
)
def test_redirect_out_of_the_base_path_is_not_followed(location: str, path: str | None) -> None:
    made = followed(location, target=BELOW)
    assert (made and made.path) == path


def test_redirect_is_not_followed_to_a_host_that_cannot_be_compared() -> None:
    unknown = Target("", ("/new",))
    assert followed("http://x.example/new", target=unknown) is None
    assert followed("/new", target=unknown) is not None


def test_redirect_to_itself_is_followed_with_a_new_cookie_only() -> None:
    get = Request("GET", "/a")
    assert followed("https://shop.example:8080/a", 301, get) is None
    again = next_request(get, 302, {"location": "/a", "set-cookie": ["a=b"]}, SHOP)
    assert again is not None


@pytest.mark.parametrize("status", [200, 300, 304, 404])
def test_other_statuses_are_not_followed(status: int) -> None:
    assert followed("/new", status) is None


def test_chosen_headers_are_shown_and_others_are_not() -> None:
    headers = {
        "content-type": "text/html; charset=utf-8",
        "location": "/x",
        "retry-after": "3",
        "set-cookie": ["a=b"],
        "server": "s",
        "x-rate": "9",
    }
    made = shown(200, "x", headers, encoding="text", documented=("X-Rate", "Set-Cookie"))
    assert made["headers"] == {
        "location": "/x",
        "retry-after": "3",
        "content-type": "text/html; charset=utf-8",
        "x-rate": "9",
    }
    assert "location" not in shown(303, None, headers, hidden=("location",))["headers"]
    assert shown(200, {}, {"content-type": "application/problem+json"}) == {
        "status": 200,
        "body": {},
    }


def test_headers_that_are_shown_are_bounded() -> None:
    headers = {f"x-{n}": "v" * 5000 for n in range(100)}
    made = shown(200, {}, headers, documented=tuple(headers))
    assert len(json.dumps(made)) < 2000
    assert shown(200, {}, "not an object")["body"] == {}


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1000])
def test_binary_body_is_shown_as_type_and_size(size: int) -> None:
    body = base64.b64encode(b"\xff" * size).decode()
    made = shown(200, body, {"content-type": "image/png"}, encoding="base64")
    assert made["body"] == {"type": "image/png", "bytes": size}


def test_cookies_of_a_request_are_added_to_those_of_the_session() -> None:
    assert with_cookies({"Cookie": "a=1"}, {"a": "2", "b": "3"}) == {"Cookie": "a=1; b=3"}
    assert with_cookies({}, {"b": "3"}) == {"Cookie": "b=3"}
    assert with_cookies({"X": "1"}, {}) == {"X": "1"}
