"""The setting targetSignIn, its secret targetCredentials, and what a document's schemes become."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ape_agent.__main__ import credentials_of
from ape_contracts.operations import Operation, Operations
from ape_contracts.service_settings import (
    AgentSettings,
    ServiceSettingsError,
    decode,
    encode,
)
from ape_contracts.sign_in import KINDS, steps
from ape_infra.config.credentials import Credentials
from ape_infra.config.errors import SettingsError
from ape_infra.config.files import SignIn
from ape_infra.config.openapi.security import sign_in, token_path
from ape_infra.config.parsing import parse
from ape_infra.config.run import RunSettings
from ape_infra.config.secrets import STAND_IN, TARGET_CREDENTIALS
from ape_infra.config.settings import Settings
from ape_infra.config.sign_in import plain

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
SOURCE = {"header": "X-Token"}
EXAMPLES: list[tuple[dict[str, Any], dict[str, Any], set[str]]] = [
    ({"kind": "bearer"}, {"credential": "token"}, {"token"}),
    ({"kind": "bearer", "credential": "a", "scheme": ""}, {}, {"a"}),
    ({"kind": "basic"}, {}, {"username", "password"}),
    (
        {"kind": "apiKey", "name": "k", "in": "query"},
        {"credential": "key", "where": "query"},
        {"key"},
    ),
    ({"kind": "oauth2", "path": "/t", "scope": "a b"}, {}, {"username", "password"}),
    (
        {"kind": "oauth2", "path": "/t", "grant": "clientCredentials", "clientAuth": "basic"},
        {"grant": "client_credentials", "client": "basic"},
        {"client_id", "client_secret"},
    ),
    ({"kind": "json", "path": "/t", "fields": {"a": ["{pin}", "{agent}"]}}, {}, {"pin"}),
    (
        {"kind": "form", "page": "/t", "token": SOURCE},
        {"fields": {"username": "{username}", "password": "{password}"}},
        {"username", "password"},
    ),
    ({"kind": "header", "name": "X-A", "value": SOURCE}, {}, set()),
    ({"kind": "logout", "path": "/bye", "method": "DELETE"}, {}, set()),
]


def settings_of(*given: Any, secrets: tuple[str, ...] = (TARGET_CREDENTIALS,)) -> Any:
    return parse({"targetSignIn": json.dumps(given)}, secrets)


def test_there_is_an_example_of_each_kind() -> None:
    assert {step["kind"] for step, _, _ in EXAMPLES} == set(KINDS)


@pytest.mark.parametrize(("given", "more", "needs"), EXAMPLES)
def test_a_step_is_what_agents_read(given: Any, more: Any, needs: set[str]) -> None:
    (made,) = plain(settings_of(given).target.sign_in)
    assert made == {k: v for k, v in given.items() if k not in ("in", "clientAuth")} | more
    (step,) = steps([made])
    assert step.needs() == needs
    if needs:
        with pytest.raises(SettingsError, match="targetCredentials: is not set, but required"):
            settings_of(given, secrets=())


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"kind": "jwt"}, "[0].kind: is \"jwt\"; input should be 'bearer'"),
        ({"kind": "basic", "password": "x"}, "[0].password: is not a setting"),
        ({"kind": "basic", "path": "/t"}, "[0].path: is not a key of kind basic. Remove it."),
        ({"kind": "oauth2"}, "[0].path: is required with kind oauth2. Set it."),
        ({"kind": "form"}, "[0].page: is required with kind form, or path. Set the login page."),
        ({"kind": "json", "path": "http://x/t"}, "[0].path: must start with /. Correct it."),
        ({"kind": "json", "path": "/t/../u"}, "[0].path: must stay below the base URL"),
        (
            {"kind": "json", "path": "/t", "token": {"header": "A", "cookie": "b"}},
            "[0].token: must have one of pointer, header, cookie, field. Correct it.",
        ),
        (
            {"kind": "header", "name": "X-A", "value": {"pointer": "/a"}},
            "[0].path: is required with a pointer or a field. Set it.",
        ),
        ({"kind": "bearer", "header": "X A"}, '[0].header: is "X A"; string should match'),
    ],
)
def test_a_step_that_breaks_a_rule_is_named(given: Any, line: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings_of(given)
    assert f"targetSignIn{line}" in str(error.value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", frozenset()),
        ('{"username": "a", "password": "b"}', {"username", "password"}),
        ('[{"token": "a", "x": "b"}, {"token": "c"}]', {"token"}),
        (STAND_IN, None),
    ],
)
def test_the_program_knows_the_names_of_the_credentials(text: str, names: Any) -> None:
    made = Credentials.of(text)
    assert (made.is_set, made.names) == (bool(text), names)


@pytest.mark.parametrize("text", ["hunter2", '"hunter2"', "[]", '{"a": 1}', '{"a": ""}', "[[]]"])
def test_credentials_that_cannot_be_read_are_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(SettingsError) as error:
        Credentials.of(text)
    assert str(error.value).startswith("ape:targetCredentials: ")
    assert "hunter2" not in str(error.value)


def test_a_credential_that_a_step_needs_must_be_there() -> None:
    declared = plain(settings_of({"kind": "header", "name": "X", "value": SOURCE}).target.sign_in)
    declared += plain(settings_of({"kind": "basic"}).target.sign_in)
    with pytest.raises(SettingsError, match=r"lacks password, which targetSignIn\[1\] needs"):
        Credentials.of('{"username": "a"}').check(declared)
    Credentials.of(STAND_IN).check(declared)


@pytest.mark.parametrize(
    ("sessions", "columns", "is_enough"),
    [
        ("runs", "username,password", True),
        ("runs", "username,pin", False),
        # Sessions outside of runs would have no password.
        ("always", "username,password", False),
    ],
)
def test_columns_of_the_users_file_are_credentials_where_all_sessions_are_of_runs(
    tmp_path: Path, sessions: Any, columns: str, is_enough: bool
) -> None:
    (tmp_path / "users.csv").write_text(f"{columns}\nann,1234\n")
    target = settings_of({"kind": "basic"}).target.model_copy(update={"url": "https://shop.test"})
    run = RunSettings(users="users.csv", sessions=sessions)
    given = Settings(target=target, run=run)
    if is_enough:
        flat = {"targetSignIn": json.dumps([{"kind": "basic"}]), "target": "https://shop.test"}
        flat |= {"targetEndpoints": json.dumps([{"method": "GET", "path": "/"}])}
        flat |= {"targetSuccess": json.dumps({"method": "GET", "path": "/", "status": 200})}
        parse(flat | {"targetGoal": "Buy.", "users": "users.csv", "sessions": "runs"}, ())
        found = SignIn.of(given, tmp_path, Credentials(), "https://shop.test")
        assert [step["kind"] for step in found.steps] == ["basic"]
    else:
        with pytest.raises(SettingsError, match=r"lacks .* users file"):
            SignIn.of(given, tmp_path, Credentials(), "https://shop.test")


def operations(*security: tuple[str, ...], **schemes: Any) -> Operations:
    made = [
        Operation(id=str(at), method="POST", path=f"/api/{at}", security=(each,))
        for at, each in enumerate(security)
    ]
    made.append(Operation(id="t", method="POST", path="/api/auth/token"))
    return Operations(operations=tuple(made), schemes=schemes)


PASSWORD = {"type": "oauth2", "flows": {"password": {"tokenUrl": "auth/token", "scopes": {}}}}
KEY = {"type": "apiKey", "in": "header", "name": "X-Key"}


@pytest.mark.parametrize(
    ("scheme", "names", "expected"),
    [
        ({"type": "http", "scheme": "Bearer"}, ["token"], {"kind": "bearer"}),
        ({"type": "openIdConnect"}, ["token"], {"kind": "bearer"}),
        ({"type": "http", "scheme": "basic"}, ["username", "password"], {"kind": "basic"}),
        ({"type": "basic"}, ["username", "password"], {"kind": "basic"}),
        (KEY, ["key"], {"kind": "apiKey", "name": "X-Key"}),
        (KEY, ["s"], {"kind": "apiKey", "name": "X-Key", "credential": "s"}),
        (KEY | {"in": "query"}, ["key"], {"kind": "apiKey", "where": "query"}),
        (KEY | {"in": "cookie"}, ["key"], {"kind": "apiKey", "where": "cookie"}),
        (PASSWORD, ["username", "password"], {"kind": "oauth2", "path": "/api/auth/token"}),
        (PASSWORD, ["token"], {"kind": "bearer"}),
        (
            {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "/o/token"}}},
            ["client_id", "client_secret"],
            {"kind": "oauth2", "path": "/o/token", "grant": "client_credentials"},
        ),
        (
            {"type": "oauth2", "flow": "application", "tokenUrl": "http://shop:1/o"},
            ["client_id", "client_secret"],
            {"kind": "oauth2", "path": "/o", "grant": "client_credentials"},
        ),
        ({"type": "http", "scheme": "bearer"}, ["username"], "needs token, or targetSignIn"),
        ({"type": "http", "scheme": "digest"}, ["key"], "is digest, which agents cannot perform"),
        ({"type": "mutualTLS"}, ["key"], "is mutualTLS, which agents cannot perform"),
        (PASSWORD, ["key"], "needs token, username and password, or client_id"),
        (
            {"type": "oauth2", "flow": "password", "tokenUrl": "https://id.example/token"},
            ["username", "password"],
            "has its tokenUrl on another host (id.example): needs token",
        ),
    ],
)
def test_a_security_scheme_becomes_a_step_or_a_sentence(
    scheme: Any, names: list[str], expected: Any
) -> None:
    has = Credentials(True, frozenset(names)).has
    found = sign_in(operations(("s",), s=scheme), has, "http://shop:1")
    if isinstance(expected, str):
        assert (found.steps, list(found.missing)) == ([], ["s"])
        assert found.missing["s"].startswith(expected)
        return
    (step,) = found.steps
    assert step.items() >= expected.items()
    assert steps(found.steps)[0].needs() <= set(names)


def test_the_alternative_of_most_operations_that_can_be_performed_counts() -> None:
    second = {"type": "apiKey", "in": "header", "name": "X-App"}
    found = operations(
        ("p",), ("p",), ("k", "a"), ("k", "a"), ("k",), (), p=PASSWORD, k=KEY, a=second
    )

    def chosen(*names: str) -> tuple[tuple[str, ...], list[str | None]]:
        made = sign_in(found, Credentials(True, frozenset(names)).has, "http://shop:1")
        return made.schemes, [step.get("credential") for step in made.steps]

    assert chosen("username", "password", "key") == (("p",), [None])
    assert chosen("k", "a") == (("k", "a"), ["k", "a"]), "each key that is needed with another"
    assert chosen("key") == (("k",), ["key"]), "one key does not stand for two"
    assert chosen("pin") == ((), [])


@pytest.mark.parametrize(
    ("url", "target", "path"),
    [
        ("auth/token", "http://h", "/api/auth/token"),
        ("/auth/token", "http://h", "/api/auth/token"),
        ("other", "http://h/base", "/other"),
        ("http://h/base/x", "http://h/base/", "/x"),
        ("http://h:2/x", "http://h", None),
        ("http://[x", "http://h", None),
    ],
)
def test_a_token_url_is_a_path_of_the_target(url: str, target: str, path: str | None) -> None:
    assert token_path(url, operations(), target) == path


def agent(**changed: Any) -> AgentSettings:
    success = {"method": "GET", "path": "/", "status": 200}
    return AgentSettings(
        gateway_url="http://g", proxy_url="http://p", goal="g", api="a", success=success, **changed
    )


def test_settings_of_an_agent_without_a_sign_in_are_as_before() -> None:
    plain_text = encode(agent())
    assert not {"sign_in", "credentials_file", "target_https"} & json.loads(plain_text).keys()
    assert "persona" in json.loads(plain_text), "other defaults are written as before"
    declared = agent(sign_in=[{"kind": "basic"}], credentials_file="/f", target_https=False)
    assert decode(AgentSettings, encode(declared)) == declared
    assert decode(AgentSettings, plain_text) == agent()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([{"kind": "x"}], "[0].kind: must be one of bearer"),
        ([{"kind": "basic", "password": "x"}], "[0].password: is not a key of a step"),
        ([{"kind": "json", "fields": "x"}], "[0].fields: must be an object"),
        ([{"kind": "json", "token": {"a": "x"}}], "[0].token: must have one of pointer"),
    ],
)
def test_an_agent_refuses_a_step_that_it_does_not_know(given: Any, problem: str) -> None:
    with pytest.raises(ServiceSettingsError, match="sign_in") as error:
        encode(agent(sign_in=given))
    assert problem in str(error.value)


def test_each_agent_has_its_own_credentials(tmp_path: Any) -> None:
    file = tmp_path / "credentials"
    file.write_text(json.dumps([{"token": f"t{n}"} for n in (1, 2, 3)]))
    made = agent(slot="2+1", agents_here=3, credentials_file=str(file))
    assert [each["token"] for each in credentials_of(made)] == ["t3", "t1", "t2"]
    assert credentials_of(agent()) == []
    for text in ("hunter2", '{"hunter2": 1'):
        file.write_text(text)
        with pytest.raises(ServiceSettingsError) as error:
            credentials_of(made)
        assert "hunter2" not in str(error.value)


def test_the_examples_of_the_docs_are_valid() -> None:
    text = (ROOT / "docs/how-to/sign-in.md").read_text()
    blocks = [b for b in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE) if "targetSignIn" in b]
    assert len(blocks) == 10
    kinds = set()
    for block in blocks:
        declared = yaml.safe_load(block)["targetSignIn"]
        kinds |= {step.kind for step in settings_of(*declared).target.sign_in}
    assert kinds == set(KINDS)
