"""The sign-in of a session, against a fake gateway."""

from __future__ import annotations

from typing import Any

import pytest

from ape_agent.calls import Target
from ape_agent.results import SessionFailed
from ape_agent.sign_in import SignIn

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]
USER = {"username": "ada", "password": "hunter2!"}
FORM = "application/x-www-form-urlencoded"
LOGIN_PAGE = """<meta name="csrf-token" content="of-meta"><form action="/search"><input name="q">
</form><form method="post" action="{action}"><input type=hidden name="csrf_token" value="x&amp;y">
<input type=hidden name=next value="/home"><input name="username">
<input name="password" type="password"><button name="go" value="1"></form>"""

BY_FORM = {"kind": "form", "page": "/web/login", "path": "/web/login"}


class Gateway:
    """Answers each request by its method and path: (status, headers, body); keeps the requests."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, asked: dict[str, Any]) -> tuple[int, Any, Any]:
        self.asked.append(asked)
        name = f"{asked['http_method']} {asked['endpoint_path']}"
        status, headers, body = self.answers.get(name, (404, {}, None))
        return status, headers, body


def sign_in(
    *steps: dict[str, Any], host: str = "shop:8000", more: dict[str, str] | None = None
) -> SignIn:
    values = {"agent": "agent-0001", "slot": "1", "session": "s"}
    return SignIn(list(steps), USER | (more or {}), values, Target(host))


@pytest.mark.parametrize(
    ("step", "headers", "query"),
    [
        ({"kind": "bearer", "credential": "token"}, {"Authorization": "Bearer tok-1"}, {}),
        (
            {"kind": "bearer", "credential": "token", "scheme": "Token"},
            {"Authorization": "Token tok-1"},
            {},
        ),
        (
            {"kind": "bearer", "credential": "token", "scheme": "", "header": "X-Auth"},
            {"X-Auth": "tok-1"},
            {},
        ),
        ({"kind": "basic"}, {"Authorization": "Basic YWRhOmh1bnRlcjIh"}, {}),
        ({"kind": "apiKey", "credential": "key", "name": "X-Key"}, {"X-Key": "key-1"}, {}),
        (
            {"kind": "apiKey", "credential": "key", "name": "k", "where": "query"},
            {},
            {"k": "key-1"},
        ),
        (
            {"kind": "apiKey", "credential": "key", "name": "k", "where": "cookie"},
            {"Cookie": "k=key-1"},
            {},
        ),
    ],
)
async def test_a_credential_goes_where_its_kind_says(step: Any, headers: Any, query: Any) -> None:
    gateway, made = Gateway(), sign_in(step, more={"token": "tok-1", "key": "key-1"})
    await made.begin(gateway)
    assert made.added("/x") == (headers, query)
    assert gateway.asked == []
    assert "hunter2!" not in str(made.redacted({"a": ["tok-1", "x key-1", "hunter2!", 1]}))


async def test_oauth2_password_posts_a_form_and_sends_the_token() -> None:
    gateway = Gateway(**{"POST /auth/token": (200, {}, {"access_token": "t0k3n"})})
    made = sign_in({"kind": "oauth2", "path": "/auth/token", "scope": "read"})
    await made.begin(gateway)
    assert gateway.asked == [
        {
            "http_method": "POST",
            "endpoint_path": "/auth/token",
            "session_headers": {},
            "request_payload": {"grant_type": "password", **USER, "scope": "read"},
            "content_type": FORM,
        }
    ]
    assert made.added("/x") == ({"Authorization": "Bearer t0k3n"}, {})
    assert made.hides("POST", "/auth/token?x")
    assert not made.hides("GET", "/auth/token")
    assert made.redacted("t0k3n") == "[secret]"


@pytest.mark.parametrize(
    ("client", "headers", "form"),
    [
        ("body", {}, {"client_id": "i:d", "client_secret": "s/t"}),
        ("basic", {"Authorization": "Basic aSUzQWQ6cyUyRnQ="}, {}),
    ],
)
async def test_oauth2_client_credentials_are_in_the_form_or_the_header(
    client: str, headers: Any, form: Any
) -> None:
    gateway = Gateway(**{"POST /t": (200, {}, {"access_token": "t0k3n"})})
    step = {"kind": "oauth2", "path": "/t", "grant": "client_credentials", "client": client}
    await sign_in(step, more={"client_id": "i:d", "client_secret": "s/t"}).begin(gateway)
    assert gateway.asked[0]["session_headers"] == headers
    assert gateway.asked[0]["request_payload"] == {"grant_type": "client_credentials"} | form


@pytest.mark.parametrize(
    ("step", "answer", "header"),
    [
        ({}, ({}, {"data": {"token": "t1"}}), "Bearer t1"),
        ({"token": {"pointer": "/a/0/b~1c"}}, ({}, {"a": [{"b/c": "t2"}]}), "Bearer t2"),
        ({"token": {"pointer": "/key"}, "scheme": "Token"}, ({}, {"key": "t3"}), "Token t3"),
        (
            {"token": {"header": "Authorization"}},
            ({"authorization": "bearer t4"}, None),
            "Bearer t4",
        ),
        ({"token": {"cookie": "jwt"}}, ({"set-cookie": ["jwt=t5; Path=/api"]}, None), "Bearer t5"),
        ({}, ({"set-cookie": ["sid=1; Path=/"]}, {"ok": True}), None),
    ],
)
async def test_a_json_login_takes_the_token_from_where_it_stands(
    step: Any, answer: Any, header: str | None
) -> None:
    fields = {"user": {"name": "{username}", "code": "{agent}"}, "password": "{password}", "n": 1}
    gateway = Gateway(**{"POST /login": (200, *answer)})
    made = sign_in({"kind": "json", "path": "/login", "fields": fields, **step})
    await made.begin(gateway)
    assert gateway.asked[0]["request_payload"] == {
        "user": {"name": "ada", "code": "agent-0001"},
        "password": "hunter2!",
        "n": 1,
    }
    assert "content_type" not in gateway.asked[0]
    assert made.added("/x")[0].get("Authorization") == header


@pytest.mark.parametrize(
    ("action", "host", "sent_to"),
    [
        ("", "shop:8000", "/web/login"),
        ("check", "shop:8000", "/web/check"),
        ("/base/check", "shop:8000/base", "/check"),
        ("http://shop:8000/check?x=1", "shop:8000", "/check?x=1"),
        ("/check", "", "/check"),
    ],
)
async def test_a_form_login_sends_the_hidden_fields_of_the_page_and_its_cookies(
    action: str, host: str, sent_to: str
) -> None:
    page = {"set-cookie": ["sid=1; Path=/"]}
    gateway = Gateway(
        **{
            "GET /web": (302, {"location": "web/login"}, ""),
            "GET /web/login": (200, page, LOGIN_PAGE.format(action=action)),
            f"POST {sent_to}": (303, {"location": "/home", "set-cookie": ["sid=2; Path=/"]}, ""),
        }
    )
    fields = {"username": "{username}", "password": "{password}"}
    made = sign_in({"kind": "form", "page": "/web", "fields": fields}, host=host)
    await made.begin(gateway)
    last = gateway.asked[-1]
    assert (last["endpoint_path"], last["content_type"]) == (sent_to, FORM)
    assert last["request_payload"] == {"csrf_token": "x&y", "next": "/home", **USER}
    assert last["session_headers"]["Cookie"] == "sid=1"
    referer = {"Referer": f"https://{host}/x"} if host else {}
    assert made.added("/x") == ({"Cookie": "sid=2", **referer}, {})


async def test_a_session_by_form_has_a_referer_only_with_https() -> None:
    made = SignIn([BY_FORM], USER, {}, Target("shop"), is_https=False)
    made.store("GET", "/", 200, {"set-cookie": ["a=1"]}, "")
    assert made.added("/x") == ({"Cookie": "a=1"}, {})


async def test_a_form_login_may_lead_back_to_its_page_which_then_has_no_form() -> None:
    pages = [LOGIN_PAGE.format(action=""), "<h1>Hello ada</h1>"]

    async def send(asked: dict[str, Any]) -> tuple[int, Any, Any]:
        if asked["http_method"] == "GET":
            return 200, {}, pages.pop(0)
        return 303, {"location": "/", "set-cookie": ["sid=1"]}, ""

    await sign_in({"kind": "form", "page": "/", "fields": {"username": "{username}"}}).begin(send)
    assert pages == []


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ({"pointer": "/csrf"}, ({}, {"csrf": "abc="})),
        ({"header": "X-CSRF-Token"}, ({"x-csrf-token": "abc="}, None)),
        ({"field": "csrf-token"}, ({}, '<meta name="csrf-token" content="abc=">')),
        ({"cookie": "XSRF-TOKEN"}, ({"set-cookie": ["XSRF-TOKEN=abc%3D; Path=/"]}, None)),
    ],
)
async def test_a_header_has_the_value_of_an_answer_and_of_later_ones(
    value: Any, answer: Any
) -> None:
    gateway = Gateway(**{"GET /csrf": (200, *answer)})
    made = sign_in({"kind": "header", "name": "X-CSRF-Token", "path": "/csrf", "value": value})
    await made.begin(gateway)
    assert made.added("/x")[0]["X-CSRF-Token"] == "abc="
    made.store("GET", "/csrf", 200, {"x-csrf-token": "new", "set-cookie": ["XSRF-TOKEN=new"]}, "")
    if set(value) & {"header", "cookie"}:
        assert made.added("/x")[0]["X-CSRF-Token"] == "new"


async def test_a_header_without_a_path_follows_any_answer() -> None:
    made = sign_in({"kind": "header", "name": "X-Session", "value": {"header": "X-Session"}})
    await made.begin(Gateway())
    assert made.added("/x") == ({}, {})
    made.store("GET", "/any", 200, {"x-session": "7"}, None)
    assert made.added("/x") == ({"X-Session": "7"}, {})


async def test_the_end_of_a_session_logs_out_once_it_was_signed_in() -> None:
    steps = [
        {"kind": "bearer", "credential": "token"},
        {"kind": "logout", "path": "/bye", "method": "DELETE"},
    ]
    gateway, made = Gateway(), sign_in(*steps, more={"token": "tok-1"})
    await made.end(gateway)
    assert gateway.asked == []
    await made.begin(gateway)
    await made.end(gateway)
    assert [(a["http_method"], a["endpoint_path"]) for a in gateway.asked] == [("DELETE", "/bye")]
    assert gateway.asked[0]["session_headers"] == {"Authorization": "Bearer tok-1"}


async def test_a_declared_sign_in_guesses_no_token() -> None:
    made = sign_in({"kind": "bearer", "credential": "token"}, more={"token": "tok-1"})
    await made.begin(Gateway())
    made.store("POST", "/login", 200, {}, {"token": "another"})
    assert made.added("/x") == ({"Authorization": "Bearer tok-1"}, {})


@pytest.mark.parametrize(
    ("step", "answers", "detail"),
    [
        (
            {"kind": "oauth2", "path": "/t"},
            {"POST /t": (400, {}, {"error_description": "hunter2! is wrong"})},
            "Sign-in: POST /t: status 400. [secret] is wrong",
        ),
        (
            {"kind": "oauth2", "path": "/t"},
            {"POST /t": (200, {}, {"token": "t"})},
            "Sign-in: the answer to POST /t has no pointer /access_token.",
        ),
        (
            {"kind": "json", "path": "/t", "fields": {}},
            {"POST /t": (200, {}, {"ok": False})},
            "Sign-in: the answer to POST /t has neither a token nor a cookie. Set `token` to "
            "where the token stands.",
        ),
        (
            {"kind": "json", "path": "/t", "fields": {"pin": "{pin}"}},
            {},
            "Sign-in: targetCredentials lacks pin.",
        ),
        (
            {"kind": "form", "page": "/t", "fields": {"username": "{username}"}},
            {"GET /t": (200, {}, "<form action='https://evil.example/'><input name=username>")},
            "Sign-in: the form of the page /t is sent to another host.",
        ),
        (
            {"kind": "form", "page": "/t", "fields": {"login": "{username}"}},
            {"GET /t": (200, {}, "<form><input name=q>")},
            "Sign-in: the page /t has no form with the fields login.",
        ),
        (
            {"kind": "form", "page": "/t", "fields": {"username": "{username}"}},
            {"GET /t": (302, {"location": "//evil.example/t"}, "")},
            "Sign-in: GET /t is redirected to another host.",
        ),
        (
            {"kind": "form", "page": "/t", "fields": {"username": "{username}"}},
            {
                "GET /t": (200, {}, LOGIN_PAGE.format(action="")),
                "POST /t": (200, {}, LOGIN_PAGE.format(action="")),
            },
            "Sign-in: after POST /t the target shows the login form again. Correct the "
            "credentials or the names of the fields.",
        ),
        (
            {"kind": "form", "page": "/t", "fields": {"username": "{username}"}},
            {
                "GET /t": (200, {}, LOGIN_PAGE.format(action="")),
                "POST /t": (302, {"location": "/t?error"}, ""),
                "GET /t?error": (200, {}, LOGIN_PAGE.format(action="")),
            },
            "Sign-in: after POST /t the target shows the login form again. Correct the "
            "credentials or the names of the fields.",
        ),
        (
            {"kind": "header", "name": "X", "path": "/t", "value": {"cookie": "c"}},
            {"GET /t": (200, {}, "")},
            "Sign-in: the answer to GET /t has no cookie c.",
        ),
        (
            {"kind": "header", "name": "X", "path": "/t", "value": {"cookie": "c"}},
            {"GET /t": (302, {"location": "/t"}, "")},
            "Sign-in: GET /t: more than 5 redirects.",
        ),
    ],
)
async def test_a_sign_in_that_fails_ends_the_session_with_its_reason(
    step: Any, answers: Any, detail: str
) -> None:
    with pytest.raises(SessionFailed) as failure:
        await sign_in(step).begin(Gateway(**answers))
    assert (failure.value.reason, failure.value.detail) == ("target_error", detail)


LOGIN = {"kind": "json", "path": "/login", "token": {"pointer": "/t"}}


@pytest.mark.parametrize(
    ("step", "path", "status", "location", "is_over"),
    [
        (LOGIN, "/cart", 401, None, True),
        (LOGIN, "/cart", 403, None, False),
        # The model's own login with wrong words.
        (LOGIN, "/login", 401, None, False),
        (BY_FORM, "/cart", 302, "/web/login?next=/cart", True),
        (BY_FORM, "/cart", 302, "http://other/web/login", False),
        (BY_FORM, "/cart", 303, "/orders/1", False),
        ({"kind": "basic"}, "/cart", 401, None, False),
    ],
)
async def test_a_session_is_over_by_401_or_a_redirect_to_the_login_page(
    step: Any, path: str, status: int, location: str | None, is_over: bool
) -> None:
    page = LOGIN_PAGE.format(action="/web/login")
    made = sign_in(step)
    cookie = {"set-cookie": ["s=1"]}
    await made.begin(
        Gateway(
            **{
                "POST /login": (200, {}, {"t": "token-1"}),
                "GET /web/login": (200, {}, page),
                "POST /web/login": (303, cookie | {"location": "/"}, ""),
            }
        )
    )
    assert made.is_over(path, status, {"location": location} if location else {}) is is_over


async def test_a_session_is_signed_in_again_once_and_without_its_old_token() -> None:
    gateway, made = Gateway(**{"POST /login": (200, {}, {"t": "token-1"})}), sign_in(LOGIN)
    await made.begin(gateway)
    gateway.answers["POST /login"] = (200, {}, {"t": "token-2"})
    await made.renew(gateway)
    assert gateway.asked[-1]["session_headers"] == {}
    assert made.added("/x")[0] == {"Authorization": "Bearer token-2"}
    assert not made.is_over("/x", 401, {})


async def test_a_session_is_over_by_403_once_and_if_an_answer_was_accepted_before() -> None:
    gateway, made = Gateway(**{"POST /login": (200, {}, {"t": "token-1"})}), sign_in(LOGIN)
    await made.begin(gateway)
    made.store("GET", "/x", 403, {}, None)
    assert not made.is_over("/x", 403, {})
    made.store("GET", "/y", 200, {}, None)
    assert made.is_over("/x", 403, {})
    await made.renew(gateway, 403)
    # A user who may not do this does not take the renewal of a session that ends.
    assert not made.is_over("/x", 403, {})
    assert made.is_over("/x", 401, {})
