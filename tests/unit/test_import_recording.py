"""`ape-load import FILE...`: what becomes of Postman collections, HAR files and curl commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ape_contracts.operation_request import File, build
from ape_contracts.operations import BODY, Operation, arguments
from ape_infra.cli import app
from ape_infra.cli.common import EXIT_OK, EXIT_PRECONDITION_FAILED
from ape_infra.config import imports, openapi
from ape_infra.config.imports import Imported, ImportProblem
from ape_infra.config.imports.model import Notes
from ape_infra.config.parsing import parse_config
from ape_infra.config.settings import Settings

pytestmark = pytest.mark.unit
# About what agents send of an operation, not about what the document lacks.
OF_AGENTS = {"security", "header", "body_type", "optional_body_type", "get_body", "json_type"}
URL = "https://shop.example"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF123"


def converted(text: str | dict[str, Any], name: str = "file", **options: Any) -> Imported:
    notes = Notes()
    raw = text if isinstance(text, str) else json.dumps(text)
    return imports.convert([imports.read(raw.encode(), name, notes)], notes, **options)


def entry(method: str, path: str, **more: Any) -> dict[str, Any]:
    """An entry of a HAR file."""
    request = {"method": method, "url": path if "://" in path else URL + path}
    answer = {"status": more.pop("status", 200), "content": more.pop("content", {})}
    kind = {"_resourceType": more.pop("kind")} if "kind" in more else {}
    return {"request": request | more, "response": answer} | kind


def har(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"log": {"version": "1.2", "entries": list(entries)}}


def postman(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    schema = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
    return {"info": {"name": "Shop", "schema": schema}, "item": list(items)} | more


def sent(data: Any, kind: str = "application/json") -> dict[str, Any]:
    return {"mimeType": kind, "text": data if isinstance(data, str) else json.dumps(data)}


def headers(**given: str) -> list[dict[str, str]]:
    return [{"name": name.replace("_", "-"), "value": value} for name, value in given.items()]


def operations(found: Imported) -> dict[str, Operation]:
    """The operations that the loader reads, none of which it leaves out."""
    read = openapi.read(
        found.document_text.encode(), wanted=openapi.Wanted(include=("/**", "DELETE"))
    )
    kinds = {line.kind for line in read.report.lines()} - OF_AGENTS
    assert kinds <= {"selector"}
    assert len(read.operations.operations) == found.operations
    return {f"{each.method} {each.path}": each for each in read.operations.operations}


def files_of(value: Any) -> Any:
    """The value with files, as the gateway fills them in."""
    if isinstance(value, Mapping):
        return File(b"x") if "$file" in value else {k: files_of(v) for k, v in value.items()}
    return [files_of(each) for each in value] if isinstance(value, list) else value


def example_request(operation: Operation) -> tuple[str, str, list[tuple[str, str]], Any]:
    """(method, path, query, body) of the request with the examples of an operation."""
    values = {name: each.example for name, each in arguments(operation).items()}
    if operation.body is not None:
        values[BODY] = files_of(operation.body.example)
    made = build(operation, values)
    path, _, query = made.path.partition("?")
    body: Any = (made.body or b"").decode()
    if operation.body and operation.body.content_type == "application/json":
        body = json.loads(body)
    elif operation.body and "form" in operation.body.content_type:
        body = sorted(parse_qsl(body, keep_blank_values=True))
    return made.method, unquote(path), sorted(parse_qsl(query, keep_blank_values=True)), body


# Words that are neither secrets nor parts of a path with a meaning of their own. The loader makes
# one blank of several in a name.
WORDS = st.text("abcdegé0&=+ /{}%?#", min_size=1, max_size=6).map(
    lambda text: " ".join(f"w{text}".split())
)
SEGMENTS = st.text("abdeg%-.~é", min_size=1, max_size=6).map(lambda text: f"x{text}")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
QUERY = st.dictionaries(
    WORDS, st.lists(WORDS | st.just("12") | st.just(""), min_size=1), max_size=3
)
FORM, JSON = "application/x-www-form-urlencoded", "application/json"


@settings(max_examples=25)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
    path=st.lists(SEGMENTS | st.just("77"), min_size=1, max_size=3),
    query=QUERY,
    body=st.dictionaries(WORDS, VALUES, max_size=3),
    form=QUERY,
    kind=st.sampled_from([FORM, JSON, ""]),
)
def test_example_of_an_operation_is_the_recorded_request(
    method: str, path: list[str], query: dict[str, Any], body: Any, form: Any, kind: str
) -> None:
    encoded = "/".join(quote(segment, safe="") for segment in path)
    asked = urlencode(query, doseq=True)
    more: dict[str, Any] = {}
    if kind and method != "GET":
        text = json.dumps(body) if kind == JSON else urlencode(form, doseq=True)
        more = {"postData": sent(text, kind)}
    found = converted(har(entry(method, f"/{encoded}?{asked}", **more)))
    (operation,) = operations(found).values()
    wanted: Any = ""
    if more and kind == JSON:
        wanted = body
    elif more:
        wanted = sorted((k, v) for k, values in form.items() for v in values) or ""
    assert example_request(operation) == (
        method,
        "/" + "/".join(path),
        sorted((k, v) for k, values in query.items() for v in values),
        wanted,
    )


def test_browser_session_becomes_operations_settings_and_sign_in() -> None:
    found = converted(
        har(
            entry("GET", "/", kind="document"),
            entry("GET", "/app.js", kind="script"),
            entry("GET", "/logo", content={"mimeType": "image/png"}),
            entry("OPTIONS", "/api/login"),
            entry("POST", "https://metrics.example/collect"),
            entry(
                "POST",
                "/api/login",
                postData=sent({"email": "ann@shop.example", "password": "correct horse"}),
                content={"text": json.dumps({"data": {"jwt": JWT}})},
            ),
            entry("GET", "/api/items?page=1", headers=headers(Authorization=f"Bearer {JWT}")),
            entry("GET", "/api/items/SKU-1", headers=headers(Authorization=f"Bearer {JWT}")),
            entry("GET", "/api/items/SKU-2", headers=headers(Authorization=f"Bearer {JWT}")),
            entry(
                "POST",
                "/api/orders",
                headers=headers(Authorization=f"Bearer {JWT}", X_Tenant="acme", Sec_Fetch_Mode="x"),
                postData=sent({"sku": "SKU-2", "quantity": 2}),
                status=201,
            ),
        )
    )
    assert list(operations(found)) == [
        *("GET /", "POST /api/login", "GET /api/items", "GET /api/items/{item_id}"),
        "POST /api/orders",
    ]
    assert [p.name for p in operations(found)["POST /api/orders"].parameters] == ["X-Tenant"]
    assert found.settings == {
        "target": URL,
        "targetOpenapi": "imported.openapi.json",
        "targetExclude": ["POST /api/login"],
        "targetSignIn": [
            {
                "kind": "json",
                "path": "/api/login",
                "fields": {"email": "{username}", "password": "{password}"},
                "token": {"pointer": "/data/jwt"},
            }
        ],
        "targetGoal": "Do what the recording does, in its order: GET /, GET /api/items, "
        "GET /api/items/{item_id}, POST /api/orders.",
        "targetSuccess": {"method": "POST", "path": "/api/orders", "status": 201},
    }
    assert found.endpoints == [
        {"method": "GET", "path": "/"},
        {"method": "GET", "path": "/api/items?page=1"},
        {"method": "GET", "path": "/api/items/{item_id}"},
        {"method": "POST", "path": "/api/orders", "body": {"sku": "SKU-2", "quantity": 2}},
    ]
    assert found.command == (
        """pulumi config set --secret targetCredentials '{"username": "...", "password": "..."}'"""
    )
    assert {note["reason"]: note["count"] for note in found.notes.plain()} == {
        "a static file (image, style, script, font) is left out": 2,
        "another host is left out: metrics.example": 1,
        "method OPTIONS is left out": 1,
    }


def parsed(config: dict[str, Any]) -> Settings:
    """The settings of a stack config, whose values Pulumi hands over as texts."""
    return parse_config(
        {
            name.removeprefix("ape:"): value if isinstance(value, str) else json.dumps(value)
            for name, value in config.items()
        }
    )


def test_settings_of_a_recording_are_accepted() -> None:
    found = converted(har(entry("GET", "/items"), entry("DELETE", "/items/1")))
    text, _, alternative = found.settings_text.partition("# In place of")
    target = parsed(yaml.safe_load(text)["config"]).target
    assert (target.url, target.openapi) == (URL, "imported.openapi.json")
    assert target.include == ["/**", "DELETE"]
    lines = alternative.splitlines()[1:]
    listed = yaml.safe_load("\n".join(line.removeprefix("#   ") for line in lines))
    kept = yaml.safe_load(text)["config"]
    del kept["ape:targetOpenapi"], kept["ape:targetInclude"]
    assert [(each.method, each.path) for each in parsed(kept | listed).target.endpoints] == [
        ("GET", "/items"),
        ("DELETE", "/items/{item_id}"),
    ]


@pytest.mark.parametrize(
    ("authorization", "step"),
    [
        (f"Bearer {JWT}", {"kind": "bearer", "credential": "token"}),
        ("Token 0123456789", {"kind": "bearer", "credential": "token", "scheme": "Token"}),
        ("0123456789", {"kind": "bearer", "credential": "token", "scheme": ""}),
        ("Basic YW5uOmNvcnJlY3QgaG9yc2U=", {"kind": "basic"}),
    ],
)
def test_authorization_becomes_a_step(authorization: str, step: dict[str, Any]) -> None:
    found = converted(har(entry("GET", "/me", headers=headers(authorization=authorization))))
    assert found.settings["targetSignIn"] == [step]
    assert not leaked(found, authorization, authorization.partition(" ")[2] or authorization)


def test_keys_in_header_and_query_become_steps() -> None:
    found = converted(har(entry("GET", "/me?api_key=k0", headers=headers(X_Api_Key="k1"))))
    assert found.settings["targetSignIn"] == [
        {"kind": "apiKey", "in": "header", "name": "X-Api-Key", "credential": "x_api_key"},
        {"kind": "apiKey", "in": "query", "name": "api_key", "credential": "api_key"},
    ]
    assert not leaked(found, "k0", "k1")


def test_form_login_reads_the_page_and_sends_the_token_of_the_cookie() -> None:
    login = "username=ann&password=correct+horse&csrfmiddlewaretoken=abc123&remember=on"
    found = converted(
        har(
            entry("GET", "/login"),
            entry("POST", "/login", postData=sent(login, FORM), status=303),
            entry(
                "POST",
                "/cart",
                headers=headers(Cookie="csrftoken=tok123; sessionid=s3ss10n", X_CSRFToken="tok123"),
            ),
        )
    )
    assert found.settings["targetSignIn"] == [
        {
            "kind": "form",
            "path": "/login",
            "fields": {"username": "{username}", "password": "{password}", "remember": "on"},
            "page": "/login",
        },
        {"kind": "header", "name": "X-CSRFToken", "value": {"cookie": "csrftoken"}},
    ]
    assert not leaked(found, "abc123", "tok123", "s3ss10n", "correct horse")


def test_token_request_of_oauth2_becomes_a_step() -> None:
    form = "grant_type=client_credentials&client_id=shop&client_secret=s3cr3t!&scope=read"
    found = converted(har(entry("POST", "/oauth/token", postData=sent(form, FORM))))
    assert found.settings["targetSignIn"] == [
        {"kind": "oauth2", "path": "/oauth/token", "grant": "clientCredentials", "scope": "read"}
    ]
    assert '"client_id": "...", "client_secret": "..."' in found.command


def leaked(found: Imported, *secrets: str) -> list[str]:
    """The secrets that stand in anything that is written or shown."""
    shown = (found.document_text, found.settings_text, str(found.secrets), str(found.notes))
    return [secret for secret in secrets if any(secret in text for text in shown)]


@settings(max_examples=20)
@given(secret=st.text("abcXYZ019_.-", min_size=8, max_size=20).map(lambda text: f"q9{text}7z"))
def test_secret_of_a_recording_stands_in_nothing_that_is_written(secret: str) -> None:
    found = converted(
        har(
            entry("GET", f"/a/{secret}?next={secret}&token={secret}&x=0"),
            entry("POST", "/login", postData=sent({"user": "ann", "password": secret})),
            entry("POST", "/b", postData=sent({"refreshToken": secret, "note": f"is {secret}!"})),
            entry("POST", f"/c/{secret}", postData=sent(f"<a>{secret}</a>", "text/xml")),
            entry("GET", "/d", headers=headers(Cookie=f"sid={secret}", X_Note=f"of {secret}")),
            entry("GET", "/e?a=1", headers=headers(Authorization=f"Basic {secret}")),
        )
    )
    assert not leaked(found, secret)


def test_token_by_its_form_is_left_out_wherever_it_stands() -> None:
    body = {"note": f"see {JWT}", "text": "password: hunter22", "next_page_token": "p2"}
    found = converted(har(entry("POST", f"/a/{JWT}", postData=sent(body))))
    operation = operations(found)["POST /a/{token}"]
    assert operation.body is not None
    assert operation.body.example == {
        "note": "see {token}",
        "text": "password: {secret}",
        "next_page_token": "p2",
    }
    assert not leaked(found, JWT, "hunter22")


def test_collection_has_variables_folders_auth_and_bodies() -> None:
    url = {
        "raw": "{{base}}/users/:userId/orders?page={{page}}&off=1",
        "query": [
            {"key": "page", "value": "{{page}}"},
            {"key": "off", "value": "1", "disabled": True},
        ],
        "variable": [{"key": "userId", "value": "7"}],
    }
    body = {"mode": "raw", "raw": '{"order": {{orderId}}, "note": "{{note}}", "of": "{{base}}"}'}
    items: list[dict[str, Any]] = [
        {
            "name": "Orders of a user",
            "item": [{"name": "Orders", "request": {"method": "GET", "url": url}}],
            "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{token}}"}]},
        },
        {
            "name": "Order",
            "request": {
                "method": "POST",
                "url": "{{base}}/orders/{{orderId}}",
                "header": [{"key": "X-Off", "value": "1", "disabled": True}],
                "body": body | {"options": {"raw": {"language": "json"}}},
            },
            "response": [{"code": 201}],
        },
        {
            "name": "Upload",
            "request": {
                "method": "POST",
                "url": "{{base}}/files",
                "body": {
                    "mode": "formdata",
                    "formdata": [
                        {"key": "file", "type": "file", "src": "/home/ann/cat.png"},
                        {"key": "note", "value": "hi"},
                    ],
                },
            },
        },
    ]
    known = [{"key": "base", "value": URL}, {"key": "token", "value": "t0ps3cr3t"}]
    found = converted(postman(*items, variable=known))
    made = operations(found)
    assert list(made) == [
        "GET /users/{userId}/orders",
        "POST /orders/{orderId}",
        "POST /files",
    ]
    orders = made["GET /users/{userId}/orders"]
    assert [(p.name, p.example) for p in orders.parameters] == [("userId", 7), ("page", None)]
    assert (orders.summary, orders.security) == ("Orders", (("bearer",),))
    order, upload = made["POST /orders/{orderId}"].body, made["POST /files"].body
    assert order is not None
    assert upload is not None
    assert order.example == {"order": "{orderId}", "note": "{note}", "of": URL}
    assert upload.example == {"file": {"$file": {"name": "cat.png"}}, "note": "hi"}
    assert found.settings["targetSignIn"] == [{"kind": "bearer", "credential": "token"}]
    assert not leaked(found, "t0ps3cr3t", "/home/ann")


def test_curl_commands_are_read_as_a_shell_takes_them() -> None:
    found = converted(
        r"""#!/bin/sh
# curl https://left.example
BASE=https://shop.example/api
TOKEN=$(curl -s "$BASE/login" --json '{"user": "ann", "password": "hunter22"}' | jq -r .token)
curl -sSL "$BASE/items?tag=a&tag=b" \
  -H "Authorization: Bearer $TOKEN" -H 'X-Tenant: acme' > out.json 2>&1
curl -XPUT ${BASE}/items/1 -d "{\"name\": \"x\", \"owner\": $OWNER}" \
  -H $'Content-Type: \x61pplication/json'
curl $BASE/form -d a=1 -d 'b=x y' --data-urlencode 'c=é&b' && echo done
$ curl -F 'file=@/tmp/cat.png;type=image/png' -F note=hi $BASE/files
curl -G $BASE/search -d q=lamp --next -I $BASE/items
curl --frobnicate $BASE/
""",
    )
    made = operations(found)
    assert list(made) == [
        *("POST /api/login", "GET /api/items", "PUT /api/items/{item_id}", "POST /api/form"),
        *("POST /api/files", "GET /api/search"),
    ]
    bodies = {name: each.body.example for name, each in made.items() if each.body}
    assert bodies == {
        "POST /api/login": {"user": "{username}", "password": "{password}"},
        "PUT /api/items/{item_id}": {"name": "x", "owner": "{OWNER}"},
        "POST /api/form": {"a": "1", "b": "x y", "c": "é&b"},
        "POST /api/files": {
            "file": {"$file": {"name": "cat.png", "type": "image/png"}},
            "note": "hi",
        },
    }
    assert example_request(made["GET /api/items"])[2] == [("tag", "a"), ("tag", "b")]
    assert [note["reason"] for note in found.notes.plain()] == [
        "a command with the unknown option frobnicate is left out",
        "method HEAD is left out",
        "the recording has no statuses: set targetSuccess",
    ]


def test_host_is_the_most_frequent_or_the_given_one() -> None:
    recorded = har(*[entry("GET", "/a")] * 2, entry("GET", "http://localhost:8000/b"))
    assert converted(recorded).settings["target"] == URL
    found = converted(recorded, host="localhost:8000")
    assert found.settings["target"] == "http://host.docker.internal:8000"
    assert list(operations(found)) == ["GET /b"]
    item = {"name": "A", "request": "{{base}}/a"}
    with pytest.raises(ImportProblem, match=r"variable .base., which has no value\. Add --host"):
        converted(postman(item))
    assert converted(postman(item), host=URL).settings["target"] == URL


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("hello", "has no curl command"),
        ("{", "line 1, column 2: not JSON"),
        ("[1]", "not an object"),
        ('{"a": ' * 500 + "1" + "}" * 500, "nested too deeply"),
        ('{"openapi": "3.1.0"}', "is an OpenAPI document"),
        ('{"routes": {"a": {}}}', "ape-load import gateway"),
        ('{"log": 1}', "without a list `log.entries`"),
        ('{"log": {"entries": []}}', "no request to import"),
        ('{"log": {"entries": [1, {}, {"request": {"method": 1}}]}}', "no request to import"),
        ('{"info": {}, "item": {}}', "without a list `item`"),
        ("curl", "no request to import"),
    ],
)
def test_rubbish_is_a_sentence(text: str, why: str) -> None:
    with pytest.raises(ImportProblem, match=why):
        converted(text)


def test_command_writes_both_files_or_none(tmp_path: Path) -> None:
    source = tmp_path / "shop.har"
    source.write_text(json.dumps(har(entry("GET", "/me", headers=headers(X_Api_Key="k0")))))
    out = tmp_path / "out"
    run = CliRunner().invoke
    failed = run(app, ["import", str(source), "--out", str(out)])
    assert failed.exit_code == EXIT_PRECONDITION_FAILED
    assert "is not a folder" in failed.output
    out.mkdir()
    (out / "imported.settings.yaml").write_text("mine")
    failed = run(app, ["import", str(source), "--out", str(out)])
    assert failed.exit_code == EXIT_PRECONDITION_FAILED
    assert "add --force" in failed.output
    assert [file.name for file in out.iterdir()] == ["imported.settings.yaml"]
    done = run(app, ["import", str(source), "--out", str(out), "--force", "--json"])
    assert done.exit_code == EXIT_OK
    shown = json.loads(done.stdout)
    assert shown["secrets"] == [{"what": "header X-Api-Key", "count": 1, "credential": "x_api_key"}]
    assert sorted(file.name for file in out.iterdir()) == [
        "imported.openapi.json",
        "imported.settings.yaml",
    ]
    assert "mine" not in (out / "imported.settings.yaml").read_text()


def test_command_names_the_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\xff\xfe\x00")
    for name, why in (("a.bin", "is not UTF-8 text"), ("b.har", "No such file")):
        result = CliRunner().invoke(app, ["import", str(tmp_path / name), "-o", str(tmp_path)])
        assert result.exit_code == EXIT_PRECONDITION_FAILED
        assert f"{tmp_path / name}: {why}" in result.output.replace("\n", "")
