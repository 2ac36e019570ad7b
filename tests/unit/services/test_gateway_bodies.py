"""Queries, content types and bodies of requests to a target, on every way in."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client

from ape_contracts.gateway_config import GatewayConfigError, Upload, load
from ape_contracts.service_settings import GatewaySettings, ServiceSettingsError
from ape_gateway import content, limits, wire
from ape_gateway.__main__ import app_of, uploads_of
from ape_gateway.app import make_app
from ape_gateway.overrides import overrides
from ape_gateway.uploads import UploadSource, generated

pytestmark = pytest.mark.unit
FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"


class Target:
    """Keeps what it was sent."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.app = web.Application(client_max_size=8 << 20)
        self.app.router.add_route("*", "/{rest:.*}", self.handle)

    async def handle(self, request: web.Request) -> web.Response:
        kind = request.headers.get("Content-Type")
        found = {
            "method": request.method,
            "query": list(request.query.items()),
            "type": kind,
            "body": await request.read(),
        }
        self.seen.append(found)
        return web.json_response({})


def fields_of(sent: dict[str, Any]) -> list[tuple[Any, ...]]:
    """(name, file name, content type, content) of each part, by Python's own parser."""
    message = email.message_from_bytes(
        b"Content-Type: " + sent["type"].encode() + b"\r\n\r\n" + sent["body"],
        policy=email.policy.HTTP,
    )
    found = []
    for part in message.iter_parts():
        disposition = part["Content-Disposition"].params
        kind = part.get("Content-Type", "")
        content_ = part.get_payload(decode=True)
        found.append((disposition["name"], disposition.get("filename"), kind, content_))
    return found


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def gateway(serve: Any, target: Target) -> Any:
    async def start(upload: dict[str, Any] | None = None, **route: Any) -> Any:
        upstream = await serve(target.app)
        url = str(upstream.make_url("")).rstrip("/")
        config = {"routes": {"shop": {"base_url": url} | route}, "upload": upload or {}}
        return await serve(make_app(load(json.dumps(config))))

    return start


SHORT = ("api_name", "method", "path", "headers", "data")
LONG = ("target_api_name", "http_method", "endpoint_path", "session_headers", "request_payload")


def asked(keys: tuple[str, ...], method: str, given: dict[str, Any]) -> dict[str, Any]:
    """The request of one wire form; `given` has the names of the short one."""
    names = dict(zip(SHORT, keys, strict=True))
    given = {"api_name": "shop", "method": method, "path": "/x"} | given
    return {names.get(name, name): value for name, value in given.items()}


# (method, what is given, query, content type, body)
SENT: list[tuple[str, dict[str, Any], list[tuple[str, str]], str | None, bytes]] = [
    ("POST", {}, [], None, b""),
    ("DELETE", {"headers": {"Content-Type": "application/json"}}, [], None, b""),
    ("PATCH", {"content_type": "text/plain", "data": None}, [], None, b""),
    ("GET", {"data": {"a": [1, None, True], "b": None}}, [("a", "1"), ("a", "true")], None, b""),
    (
        "GET",
        {"query": {"q": "a&b=c", "n": 1.5, "e": []}, "data": {"x": 2}},
        [("q", "a&b=c"), ("n", "1.5"), ("x", "2")],
        None,
        b"",
    ),
    (
        "GET",
        {"query": {"a": 1}, "headers": {"content-type": "application/json"}, "data": {"b": 2}},
        [("a", "1"), ("b", "2")],
        None,
        b"",
    ),
    ("GET", {"content_type": "application/json", "data": {"b": 2}}, [], "application/json", b""),
    ("POST", {"path": "/x?a=1", "query": {"b": "ü"}}, [("a", "1"), ("b", "ü")], None, b""),
    ("POST", {"data": 0}, [], "application/json", b"0"),
    ("POST", {"data": "text"}, [], "application/json", b'"text"'),
    ("POST", {"content_type": "text/plain", "data": "a\nü"}, [], "text/plain", "a\nü".encode()),
    ("POST", {"content_type": "text/plain", "data": ""}, [], "text/plain", b""),
    ("POST", {"content_type": "text/plain", "data": 7}, [], "text/plain", b"7"),
    (
        "PATCH",
        {"content_type": "application/merge-patch+json", "data": [None]},
        [],
        "application/merge-patch+json",
        b"",
    ),
    (
        "POST",
        {"headers": {"CONTENT-TYPE": FORM}, "data": {"a b": "ä&=", "l": [1, 2], "n": None}},
        [],
        FORM,
        b"a+b=%C3%A4%26%3D&l=1&l=2",
    ),
    ("POST", {"content_type": FORM, "data": "a=1&b=2"}, [], FORM, b"a=1&b=2"),
    (
        "POST",
        {
            "content_type": FORM,
            "headers": {"Content-Type": "text/csv"},
            "data": {"f": {"a": 1}},
            "encoding": {"f": {"style": "deepObject", "explode": True, "contentType": None}},
        },
        [],
        FORM,
        b"f%5Ba%5D=1",
    ),
    (
        "POST",
        {"content_type": "application/graphql", "data": "{ me }"},
        [],
        "application/graphql",
        b"{ me }",
    ),
    ("POST", {"content_type": "application/x-amz", "data": {}}, [], "application/x-amz", b"{}"),
    (
        "POST",
        {"content_type": "application/x-ndjson", "data": [1, {}]},
        [],
        "application/x-ndjson",
        b"1\n{}\n",
    ),
]


@pytest.mark.parametrize("keys", [SHORT, LONG], ids=["short", "long"])
async def test_target_gets_the_query_the_content_type_and_the_body(
    gateway: Any, target: Target, keys: tuple[str, ...]
) -> None:
    client = await gateway()
    for method, given_, query, kind, body in SENT:
        answer = await client.post("/mcp/request", json=asked(keys, method, given_))
        assert answer.status == 200, (given_, await answer.text())
        found = target.seen.pop()
        assert (found["query"], found["type"]) == (query, kind), given_
        if body or kind is None:
            assert found["body"] == body, given_
    batch = [asked(keys, method, given_) for method, given_, *_ in SENT]
    answer = await client.post("/mcp/request", json=batch)
    assert [one["status_code"] for one in await answer.json()] == [200] * len(SENT)


async def test_json_is_forwarded_byte_by_byte_whatever_its_type(
    gateway: Any, target: Target
) -> None:
    client = await gateway()
    text = b'{ "a" : 1.0e2,"b":[ ] }'
    for more in (b"", b',"content_type":"application/vnd.api+json"', b',"content_type":"a/b"'):
        body = b'{"api_name":"shop","method":"POST","path":"/x","data":%b%b}' % (text, more)
        assert (await client.post("/mcp/request", data=body)).status == 200
        assert target.seen.pop()["body"] == text


async def test_multipart_has_files_of_the_config_and_of_the_caller(
    gateway: Any, target: Target
) -> None:
    client = await gateway({"bytes": 300, "contentType": "text/csv"})
    data = {
        "note": "ä",
        "n": 1,
        "o": {"a": [1]},
        "tags": ["x", "y"],
        "file": {"$file": {}},
        "pdf": {"$file": {}},
        "more": [{"$file": {"name": 'a"b.png', "type": "image/png", "bytes": 100}}],
    }
    body = asked(SHORT, "POST", {"content_type": f"{MULTIPART}; boundary=x", "data": data})
    body["encoding"] = {"pdf": {"contentType": "application/pdf, image/png"}}
    assert (await client.post("/mcp/request", json=body)).status == 200
    assert fields_of(target.seen[-1]) == [
        ("note", None, "", "ä".encode()),
        ("n", None, "", b"1"),
        ("o", None, "application/json", b'{"a":[1]}'),
        ("tags", None, "", b"x"),
        ("tags", None, "", b"y"),
        ("file", "upload.csv", "text/csv", generated("text/csv", 300)),
        ("pdf", "upload.pdf", "application/pdf", generated("application/pdf", 300)),
        ("more", "a%22b.png", "image/png", generated("image/png", 100)),
    ]
    await client.post("/mcp/request", json=body)
    assert target.seen[0] == target.seen[1], "the same values make the same bytes"
    whole = {"content_type": "image/png", "data": {"$file": {"bytes": 99}}}
    await client.post("/mcp/request", json=asked(SHORT, "PUT", whole))
    assert target.seen[-1]["type"] == "image/png"
    assert target.seen[-1]["body"] == generated("image/png", 99)


BIG = 1 << 20
# (what is given, the beginning of the message)
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"query": []}, "query: must be an object"),
    ({"query": {"a": {}}}, "query.a: is not a value of a query"),
    ({"query": {"a": [[1]]}}, "query.a: is not"),
    ({"query": {"a": [1] * 2000}}, "query: has more than"),
    ({"query": {"a": "x" * 70_000}}, "query: is larger than"),
    ({"content_type": "text"}, "content_type: is not"),
    ({"content_type": "a/b, c/d"}, "content_type: is not"),
    ({"content_type": "text/plain\r\nX: y"}, "content_type: is not"),
    ({"content_type": 7}, "content_type: "),
    ({"headers": {"Content-Type": "multipart/form-data, x"}}, "content_type: is not"),
    ({"content_type": "text/plain; charset=utf-16"}, "content_type: has a charset"),
    ({"content_type": "multipart/mixed", "data": "x"}, "content_type: the only"),
    ({"content_type": FORM, "data": [1]}, "data: A body of type"),
    ({"content_type": MULTIPART, "data": "x"}, "data: A body of type"),
    ({"content_type": "text/plain", "data": {"a": 1}}, "data: A body of type"),
    ({"content_type": FORM, "data": {"a": "x" * 300_000}}, "data: is larger than 256 KiB"),
    ({"content_type": FORM, "data": {"n" * 9000: [0] * 9000}}, "data: makes a body of more"),
    ({"content_type": MULTIPART, "data": {"a": [0] * 5000}}, "data: has more than 4096 values"),
    ({"content_type": "application/jsonl", "data": [[]] * 5000}, "data: has more than 4096"),
    (
        {"content_type": MULTIPART, "data": {"a": [{"$file": {"bytes": BIG}}] * 3}},
        "data: makes a body of more",
    ),
    ({"content_type": MULTIPART, "data": {"a": {"$file": 1}}}, "data.a.$file: must be"),
    ({"content_type": MULTIPART, "data": {"a": {"$file": {"x": 1}}}}, "data.a.$file: must be"),
    ({"content_type": MULTIPART, "data": {"a": {"$file": {"bytes": BIG + 1}}}}, "data.a.$file.byt"),
    ({"content_type": MULTIPART, "data": {"a": {"$file": {"bytes": True}}}}, "data.a.$file.bytes:"),
    ({"content_type": MULTIPART, "data": {"a": {"$file": {"type": "x\r"}}}}, "data.a.$file.type:"),
    ({"content_type": MULTIPART, "data": {"a": {"$file": {"name": 1}}}}, "data.a.$file.name:"),
    ({"content_type": MULTIPART, "data": {"a\\": 1}}, "data: A part of multipart"),
    ({"content_type": MULTIPART, "data": {"a": {"$file": {"name": "\\"}}}}, "data: The file of"),
    ({"content_type": FORM, "encoding": [1]}, "encoding: must be"),
    ({"content_type": FORM, "encoding": {"a": {"style": ["x"]}}}, "encoding.a.style: must"),
    ({"content_type": FORM, "encoding": {"a": {"explode": 1}}}, "encoding.a.explode: must"),
    ({"content_type": FORM, "encoding": {"a": {"contentType": "x\r\ny"}}}, "encoding.a.contentTyp"),
    ({"content_type": FORM, "encoding": {"a": {"x": "y" * 17_000}}}, "encoding: is larger"),
]


async def test_request_that_cannot_be_made_is_a_sentence_that_names_the_key(
    gateway: Any, target: Target
) -> None:
    client = await gateway()
    for given_, beginning in REFUSED:
        body = asked(SHORT, "POST", {"data": {"a": 1}} | given_)
        answer = await client.post("/mcp/request", json=body)
        found = await answer.json()
        assert (answer.status, found["error"]) == (422, "bad_request"), (beginning, found)
        assert found["error_message"].startswith(beginning), found["error_message"]
        assert len(found["error_message"]) < 300
    deep = b"[" * 200 + b"]" * 200
    for nested in (
        b'{"api_name":"shop","method":"POST","path":"/","content_type":"%b","data":{"a":%b}}'
        % (kind.encode(), deep)
        for kind in (FORM, MULTIPART)
    ):
        answer = await client.post("/mcp/request", data=nested)
        assert "data.a: is nested" in (await answer.json())["error_message"]
    body = asked(LONG, "POST", {"content_type": FORM, "data": [1]})
    answer = await client.post("/mcp/request", json=body)
    assert (await answer.json())["error_message"].startswith("request_payload: ")
    assert not target.seen


async def test_other_work_is_done_between_the_large_forms_of_a_batch(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    own_size, own_encoded = content.size_of, content.encoded

    def size_of(*args: Any) -> int:
        seen.append("form")
        return own_size(*args)

    def encoded(*args: Any) -> tuple[str, bytes]:
        seen.append("form")
        return own_encoded(*args)

    async def other_work() -> None:
        while True:
            seen.append("other")
            await asyncio.sleep(0)

    monkeypatch.setattr(content, "size_of", size_of)
    monkeypatch.setattr(content, "encoded", encoded)
    client = await gateway()
    one = asked(SHORT, "POST", {"content_type": FORM, "data": {str(i): i for i in range(1000)}})
    working = asyncio.create_task(other_work())
    answer = await client.post("/mcp/request", json=[one] * 8)
    working.cancel()
    assert {each["status_code"] for each in await answer.json()} == {200}
    assert seen.count("form") == 16
    assert ("form", "form") not in pairwise(seen)


async def test_mcp_tools_take_query_and_content_type(gateway: Any, target: Target) -> None:
    open_, named = (
        await gateway(),
        await gateway(endpoints=[{"path": "/p/{id}", "methods": ["PUT"]}]),
    )
    form = {"content_type": FORM, "data": {"a": 1}, "query": {"q": [1, 2], "none": None}}
    one = {"api_name": "shop", "method": "PUT", "path": "/p/1"} | form
    for client, tool, arguments in (
        (open_, "http_post", {"path": "/p"} | form),
        (named, "shop_put_p_id", {"id": 1} | form),
        (open_, "http_batch", {"requests": [one]}),
    ):
        async with Client(str(client.make_url("/mcp"))) as caller:
            answer = await caller.call_tool(tool, arguments)
        assert not answer.is_error, answer
        found = target.seen.pop()
        assert (found["type"], found["body"]) == (FORM, b"a=1")
        assert found["query"] == [("q", "1"), ("q", "2")]


OVERRIDES: list[dict[str, Any]] = [
    {"query": {"_method": "DELETE"}},
    {"query": {" _METHOD": ["DELETE"]}},
    {"query": {"_method[x": 1}},
    {"query": {"a": "1&_method=DELETE"}},
    {"content_type": FORM, "data": {"_method": "DELETE"}},
    {"content_type": FORM, "data": {".method\0x": "DELETE"}},
    {"content_type": FORM, "data": "_method=DELETE"},
    {
        "content_type": FORM,
        "data": {"a": {"_method": "DELETE"}},
        "encoding": {"a": {"style": "form", "explode": True}},
    },
    {"content_type": MULTIPART, "data": {"_method": "DELETE"}},
    {"headers": {"Content_Type": MULTIPART}, "data": {" .method[x]": "DELETE"}},
    {"content_type": MULTIPART, "data": {"a": {"$file": {"name": "_method"}}}},
    {"content_type": "text/plain", "data": '{"_method": "DELETE"}'},
    {"content_type": "a/b", "data": "&_method=DELETE"},
]


async def test_override_in_a_query_or_a_form_is_not_allowed(gateway: Any, target: Target) -> None:
    client = await gateway(endpoints=[{"path": "/x", "methods": ["POST"]}])
    for given_ in OVERRIDES:
        answer = await client.post("/mcp/request", json=asked(SHORT, "POST", given_))
        assert (answer.status, (await answer.json())["error"]) == (403, "not_allowed"), given_
    assert not target.seen
    for kind in (FORM, MULTIPART):
        data = {"payment_method": "card", "name": "the_method = x & y", "b": ['name="x_method"']}
        body = asked(SHORT, "POST", {"content_type": kind, "data": data, "query": data})
        assert (await client.post("/mcp/request", json=body)).status == 200


_names = st.text(alphabet='_.methodMETHOD[]=&;%"\\ \0\r\nx5f', max_size=12)


@settings(max_examples=60)
@given(st.dictionaries(_names, st.sampled_from(["DELETE", "x&_method=y", ["a"]]), max_size=2))
def test_no_name_of_a_field_passes_as_an_override(data: dict[str, Any]) -> None:
    """By the rules of PHP, which reads most of them: a dot is _, blanks go, NUL ends."""
    source = UploadSource(Upload())
    for kind in (FORM, MULTIPART):
        try:
            call = wire.make_call(
                "a", "POST", "/", None, json.dumps(data).encode(), content_type=kind
            )
            assert call.encoding is not None
            assert call.payload is not None
            made, body = content.encoded(call.encoding, call.payload, source)
        except wire.WireError:
            continue
        ready = wire.Call("a", "POST", "/", {"Content-Type": made}, body)
        read = {n.lstrip(" ").partition("\0")[0].partition("[")[0].replace(".", "_") for n in data}
        if any(name.strip(" \r\n") == "_method" for name in read):
            assert overrides(ready), data


async def test_upload_waits_for_memory_before_it_is_made(
    gateway: Any, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LARGE_ANSWERS", 0)
    monkeypatch.setattr(limits, "_PERMIT_SECONDS", 0.05)
    monkeypatch.setattr(content, "encoded", None)
    client = await gateway()
    data = {"file": {"$file": {"bytes": BIG}}}
    body = asked(SHORT, "POST", {"content_type": MULTIPART, "data": data})
    answer = await client.post("/mcp/request", json=body)
    assert (answer.status, (await answer.json())["error"]) == (503, "gateway_busy")


async def test_bodies_of_a_batch_share_the_limit(gateway: Any, target: Target) -> None:
    client = await gateway()
    data = {"file": {"$file": {"bytes": BIG}}}
    one = asked(SHORT, "POST", {"content_type": MULTIPART, "data": data})
    answer = await client.post("/mcp/request", json=[one] * 3)
    found = await answer.json()
    assert [each["status_code"] for each in found] == [422] * 3
    assert "more than 682 KiB" in found[0]["error_message"]
    answer = await client.post("/mcp/request", json=one)
    assert answer.status == 200
    assert len(target.seen[-1]["body"]) > BIG


def test_upload_of_the_config_is_checked(tmp_path: Any) -> None:
    routes = {"shop": {"base_url": "http://shop"}}
    for upload, message in (
        ({"bytes": BIG + 1}, "upload.bytes"),
        ({"contentType": "png"}, "upload.contentType: is not a content type"),
        ({"bytes": 1, "file": "x"}, "upload: has both"),
        ({"path": "x"}, "upload.path: unknown key"),
    ):
        with pytest.raises(GatewayConfigError, match=message):
            load(json.dumps({"routes": routes, "upload": upload}))
    config = tmp_path / "gateway.json"
    config.write_text(json.dumps({"routes": routes, "upload": {"file": "cat.gif"}}))
    settings_ = GatewaySettings(config_file=str(config))
    with pytest.raises(ServiceSettingsError, match=r"upload\.file: .*cat\.gif: No such file"):
        app_of(settings_)
    (tmp_path / "cat.gif").write_bytes(b"x" * (BIG + 1))
    with pytest.raises(ServiceSettingsError, match="is larger than"):
        app_of(settings_)
    (tmp_path / "cat.gif").write_bytes(b"GIF")
    app_of(settings_)
    (tmp_path / "upload").write_text("R0lGAP8=")
    source = uploads_of(Upload(file="a/dog.gif"), "", str(tmp_path / "upload"))
    assert (source.made({}).name, source.made({}).content) == ("dog.gif", b"GIF\0\xff")
    (tmp_path / "upload").write_text("GIF!")
    with pytest.raises(ServiceSettingsError, match="upload: is not base64"):
        uploads_of(Upload(file="dog.gif"), "", str(tmp_path / "upload"))
    source = UploadSource(Upload(file="a/cat.gif"), b"GIF")
    assert (made := source.made({})).content_type == "image/gif"
    assert (made.name, made.content) == ("cat.gif", b"GIF")
    assert source.made({"bytes": 7}).content == b"GIFGIFG"


def test_trace_id_may_be_anything_and_is_not_decoded() -> None:
    for text, expected in (
        ('"0123456789ABCDEF-0123456789abcdef"', "0123456789abcdef" * 2),
        (json.dumps("0" * 31 + "\u00e4"), None),
        ('"' * 2, None),
        ("7", None),
        ("null", None),
        ("[" + "[]," * 100_000 + "[]]", None),
    ):
        body = f'{{"api_name":"a","method":"GET","path":"/","trace_id":{text}}}'
        assert wire.parse(body.encode()).trace_id == expected
