"""The session's cookies and the token of its login."""

from __future__ import annotations

import pytest

from ape_agent.cookies import CookieJar

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]


async def test_cookie_jar_stores_cookies_and_the_token_of_a_successful_login() -> None:
    jar = CookieJar()
    assert jar.headers() == {}
    headers = {"set-cookie": ["a=1; Path=/", "b=2; HttpOnly"]}
    jar.store("GET", "/x", 200, headers, {"token": "not a login"})
    assert jar.headers() == {"Cookie": "a=1; b=2"}
    jar.store("POST", "/login", 401, {"set-cookie": ["a=; Max-Age=0"]}, {"token": "refused"})
    assert jar.headers() == {"Cookie": "b=2"}
    jar.store("POST", "/login", 200, {}, {"data": {"access_token": "t"}})
    assert jar.headers() == {"Cookie": "b=2", "Authorization": "Bearer t"}


async def test_cookie_jar_removes_expired_cookies_and_finds_nested_tokens() -> None:
    jar = CookieJar()
    jar.store("GET", "/", 200, {"set-cookie": ["a=1", "b=2"]}, None)
    gone = ["a=x; expires=Thu, 01 Jan 1970 00:00:00 GMT", "b=; Max-Age=0"]
    jar.store("GET", "/", 200, {"set-cookie": gone}, None)
    assert jar.headers() == {}
    jar.store("POST", "/auth", 200, {}, {"user": {"session": {"token": "deep"}}})
    assert jar.headers() == {"Authorization": "Bearer deep"}
