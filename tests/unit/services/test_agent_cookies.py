"""The session's cookies, and the login whose token is guessed."""

from __future__ import annotations

from typing import Any

import pytest

from ape_agent.cookies import CookieJar, date
from ape_agent.logins import guessed, is_login

pytestmark = pytest.mark.unit
NOW = 1_800_000_000.0


def jar(*lines: str, path: str = "/shop/cart", **changed: Any) -> CookieJar:
    """A jar of the target `shop.example:8000`, with the cookies of the answer to `path`."""
    given: dict[str, Any] = {"host": "shop.example:8000", "now": lambda: NOW}
    made = CookieJar(**given | changed)
    made.store(path, {"set-cookie": list(lines)})
    return made


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        (["a=1; Path=/", "b=2; HttpOnly; SameSite=Lax"], "b=2; a=1"),
        (["a=1", "a=2"], "a=2"),
        (["a=", "b"], "a=; b"),
        # What browsers keep of values that the RFC's grammar does not have.
        (['a={"x": 1, "y": 2}', 'b="q"', "c=d e"], 'a={"x": 1, "y": 2}; b="q"; c=d e'),
        (["a=b=c=="], "a=b=c=="),
        (["a=1\x00; Path=/", "=; Path=/", f"a={'x' * 5000}"], ""),
        (["a=1; Domain=shop.example", "b=1; domain=.SHOP.example"], "a=1; b=1"),
        (["a=1; Domain=example", "b=1; Domain=other.example", "c=1; Domain=p.shop.example"], ""),
        (["a=1; Secure"], "a=1"),
        (["a=1; Path=/shop", "b=1; Path=/sho", "c=1; Path=/shop/cart/", "d=1; Path=x"], "a=1; d=1"),
    ],
)
def test_cookies_are_kept_and_sent_as_browsers_do(lines: list[str], sent: str) -> None:
    assert jar(*lines).header("/shop/cart?page=2") == sent


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("a=2; Max-Age=0", ""),
        ("a=2; Max-Age=-1", ""),
        ("a=2; Max-Age=60", "a=2"),
        ("a=2; Max-Age=soon", "a=2"),
        ("a=2; Expires=Thu, 01 Jan 1970 00:00:00 GMT", ""),
        ("a=2; Expires=Thu, 01-Jan-2026 00:00:00 GMT", ""),
        ("a=2; Expires=Wed, 21 Oct 2065 07:28:00 GMT", "a=2"),
        ("a=2; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60", "a=2"),
        ("a=2; Expires=tomorrow", "a=2"),
        ("a=2; Path=/other; Max-Age=0", "a=1"),
    ],
)
def test_a_cookie_ends_by_its_age_or_its_date(line: str, sent: str) -> None:
    assert jar("a=1", line).header("/shop/cart") == sent


def test_a_cookie_ends_while_the_session_continues() -> None:
    clock = [NOW]
    made = jar("a=1; Max-Age=60", now=lambda: clock[0])
    assert (made.header("/shop/cart"), made.value("a")) == ("a=1", "1")
    clock[0] += 60
    assert (made.header("/shop/cart"), made.value("a")) == ("", None)


def test_paths_of_cookies_begin_with_the_targets_base_path() -> None:
    made = jar("a=1; Path=/base/cart", "b=1; Path=/cart", "c=1", host="h:1/base", path="/cart/1")
    assert made.header("/cart/1") == "a=1; c=1"
    assert made.header("/") == ""


def test_a_secure_cookie_is_not_sent_without_https() -> None:
    assert jar("a=1; Secure", "b=1", is_https=False).header("/shop/cart") == "b=1"


def test_a_jar_keeps_as_many_cookies_as_a_browser() -> None:
    made = jar(*(f"c{n}=1" for n in range(200)))
    assert len(made.header("/shop/cart").split("; ")) == 180
    assert made.value("c0") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1445412480.0),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", 1445412480.0),
        ("Wed Oct 21 07:28:00 2015", 1445412480.0),
        ("21 oct 1995 7:28:00", 814260480.0),
        ("Wed, 31 Feb 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015", None),
        ("07:28:61 21 Oct 2015", None),
    ],
)
def test_a_date_is_read_in_each_form_that_servers_send(text: str, seconds: float | None) -> None:
    assert date(text) == seconds


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/login", True),
        ("/api/v1/login/access-token?x=1", True),
        ("/api-token-auth/", True),
        ("/api/collections/users/auth-with-password", True),
        ("/Account/LogIn", True),
        ("/users/sign_in", True),
        ("/auth/token", True),
        ("/sessions", True),
        ("/login/email", True),
        ("/user/authenticate", True),
        ("/authors", False),
        ("/authors/1/books", False),
        ("/tokens", False),
        ("/device-token", False),
        ("/sessions/7/items", False),
        ("/blogin", False),
        ("/user-SignIn", True),
        ("/assign-on", False),
        ("/", False),
    ],
)
def test_a_login_is_known_by_whole_words_of_its_path(path: str, expected: bool) -> None:
    assert is_login("POST", path, 200) is expected
    assert not is_login("GET", path, 200)
    assert not is_login("POST", path, 401)


def test_the_token_of_a_login_is_found_under_its_usual_names_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from ape_agent import logins

    logins._say_once.cache_clear()
    assert guessed("POST", "/login", 200, {"data": {"access_token": "t"}}) == "t"
    assert guessed("POST", "/auth", 200, {"user": {"session": {"token": "deep"}}}) == "deep"
    assert guessed("POST", "/authors", 201, {"token": "a person"}) == ""
    assert guessed("POST", "/login", 200, {"token": "a\r\nb"}) == ""
    assert [r.getMessage() for r in caplog.records if "targetSignIn" in r.getMessage()] == [
        "no sign-in is declared: the token of a login was guessed from its answer. "
        "Declare it with targetSignIn."
    ]
