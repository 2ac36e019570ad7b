"""Requests that are nearly right, as the bytes of one connection."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import strategies as st

from bench.fuzz.values import mutated


class Request(NamedTuple):
    """`whole`: it is complete and asks for the end of the connection, so an answer is due."""

    raw: bytes
    whole: bool


@dataclass(frozen=True)
class Way:
    """A way into a service. `templates`: JSON bodies that are right.

    `endless`: the answer is a stream without an end.
    """

    method: str
    path: str
    templates: tuple[Any, ...] = ()
    headers: tuple[tuple[bytes, bytes], ...] = ()
    endless: bool = False


@dataclass(frozen=True)
class Service:
    """Where a service listens: (host, port), or the path of a socket; `pid` 0: this process."""

    name: str
    address: tuple[str, int] | str
    ways: tuple[Way, ...]
    health: str = "/health"
    pid: int = 0
    log: str = ""
    # Ways without those that are tried by name.
    paths: tuple[str, ...] = field(default=("/health", "/metrics"))


# (name, value, whether a request with it is still whole)
_HEADERS: tuple[tuple[bytes, bytes, bool], ...] = (
    (b"Origin", b"http://evil.example", True),
    (b"Origin", b"http://[::1", True),
    (b"Origin", b"null", True),
    (b"Origin", b"\xff\xfe://", True),
    (b"Origin", b"http://localhost:99999999", True),
    (b"Host", b"evil.example", True),
    (b"Host", b"[::1", True),
    (b"Host", b"\xff", True),
    (b"Host", b"a" * 3000, True),
    (b"Authorization", b"Bearer \xff\xfe\x80", True),
    (b"Authorization", b"Bearer", True),
    (b"Authorization", b"Basic Og==", True),
    (b"Authorization", b"Bearer " + b"a" * 6000, True),
    (b"Content-Type", b"text/plain; charset=\xff", True),
    (b"Content-Type", b"application/json; charset=utf-7", True),
    (b"Content-Type", b"application/json; charset=nope", True),
    (b"Content-Type", b"multipart/form-data; boundary=", True),
    (b"Content-Type", b"a" * 3000, True),
    (b"Accept", b"\xff", True),
    (b"Accept", b"*/*;q=" + b"9" * 400, True),
    (b"Cookie", b"shop_session=\xff\x00".replace(b"\0", b""), True),
    (b"Cookie", b"a=b;" * 1000, True),
    (b"traceparent", b"00-\xff-\xff-01", True),
    (b"X-Trace-ID", b"\xff" * 64, True),
    (b"X-APE-Agent", b"\xff" * 300, True),
    (b"X-APE-Agent", b"a" * 3000, True),
    (b"X-HTTP-Method-Override", b"DELETE", True),
    (b"X-Original-URL", b"/admin", True),
    (b"Mcp-Session-Id", b"\xff", True),
    (b"MCP-Protocol-Version", b"\xff", True),
    (b"MCP-Protocol-Version", b"9999-99-99", True),
    (b"Last-Event-ID", b"\xff", True),
    (b"Range", b"bytes=0-9999999999999999999999", True),
    (b"If-Modified-Since", b"\xff", True),
    (b"Forwarded", b'for="\xff', True),
    (b"X", b"y" * 9000, False),
    (b"X", b"y" * 200_000, False),
    (b"X", b"a\x00b", False),
    (b"X", b"a\rb", False),
    (b"X", b"a\r\n folded", False),
    (b"X\x80Y", b"z", False),
    (b"X Y", b"z", False),
    (b"", b"z", False),
    (b"Connection", b"keep-alive", False),
    (b"Connection", b"Upgrade", False),
    (b"Upgrade", b"websocket", False),
    (b"Upgrade", b"h2c", False),
    (b"Expect", b"100-continue", False),
    (b"Expect", b"the impossible", False),
    (b"Content-Encoding", b"gzip", True),
    (b"Content-Encoding", b"deflate", True),
    (b"Content-Encoding", b"br", True),
    (b"Content-Encoding", b"identity, gzip, \xff", True),
    (b"Transfer-Encoding", b"gzip", False),
    (b"Transfer-Encoding", b"\x0bchunked", False),
    (b"Transfer-Encoding", b"chunked, chunked", False),
    (b"Content-Length", b"0", False),
    (b"Content-Length", b"-1", False),
)
# (the version and what stands after it, whether the request is still whole)
_VERSIONS = (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"http/1.1", b"", b"HTTP/1.1 x")
_METHODS = (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"TRACE")
_ODD_METHODS = (b"CONNECT", b"PRI", b"get", b"BREW", b"G\0T", b"\xff", b"A" * 9000, b"")
_TAILS = (
    b"?a=1",
    b"?%ff=%",
    b"?" + b"a=1&" * 500,
    b"/",
    b"//",
    b"/../x",
    b"/%2e%2e",
    b";x",
    b"%00",
)
_ODD_TARGETS = (b"*", b"http://evil.example/", b"x", b"/a b", b"/\xff", b"/" + b"a" * 9000, b"")
_LENGTHS = (b"+5", b"-1", b"1e3", b"0x5", b"9" * 30, b"5, 5", b" ", b"99999", b"\xb2")
_CHUNKS = (
    b"5\r\nabc\r\n0\r\n\r\n",
    b"ffffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    b"-1\r\nabc\r\n0\r\n\r\n",
    b"zz\r\nabc\r\n0\r\n\r\n",
    b"3;" + b"x" * 20_000 + b"\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"3\nabc\n0\n\n",
    b"0\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
    b"3\r\nabc\r\n",
    b"",
)
_RARELY = 12


def chunked(body: bytes, size: int) -> bytes:
    """`body` in chunks of `size` bytes."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@st.composite
def _line(draw: Any, way: Way, paths: tuple[str, ...]) -> tuple[bytes, bool]:
    """The first line, and whether it is one that must be answered."""
    method, target, version = way.method.encode(), way.path.encode(), b"HTTP/1.1"
    kind = draw(st.integers(0, _RARELY * 2))
    if kind == 0:
        method = draw(st.sampled_from(_METHODS))
    elif kind == 1:
        target = draw(st.sampled_from(paths)).encode()
    elif kind == 2:
        target += draw(st.sampled_from(_TAILS))
    elif kind == 3:
        method = draw(st.sampled_from(_ODD_METHODS))
    elif kind == 4:
        target = draw(st.sampled_from(_ODD_TARGETS))
    elif kind == 5:
        version = draw(st.sampled_from(_VERSIONS))
    return b"%b %b %b\r\n" % (method, target, version), kind not in (3, 4, 5)


@st.composite
def _body(draw: Any, way: Way) -> bytes:
    if not way.templates:
        return draw(st.sampled_from((b"", b"", b"", b"x", b"{}")))  # type: ignore[no-any-return]
    body: bytes = draw(mutated(way.templates))
    kind = draw(st.integers(0, _RARELY * 4))
    if kind == 0:
        body = gzip.compress(body, 1)
    elif kind == 1:
        body = gzip.compress(b"[" + b"[]," * 200_000 + b"[]]", 9)
    elif kind == 2:
        body = zlib.compress(body, 1)[:-3]
    elif kind == 3:
        body = body + b" " * 300_000
    return body


@st.composite
def _framed(draw: Any, body: bytes) -> tuple[bytes, bytes, bool]:
    """The headers that frame the body, the bytes after the head, and whether that is right."""
    kind = draw(st.integers(0, _RARELY + 6))
    proper = b"Content-Length: %d\r\n" % len(body)
    coded = b"Transfer-Encoding: chunked\r\n"
    if kind == 0:
        return coded, chunked(body, max(1, len(body) // 3, len(body) // 50)), True
    if kind == 1:
        return coded, draw(st.sampled_from(_CHUNKS)), False
    if kind == 2:
        return b"Content-Length: %b\r\n" % draw(st.sampled_from(_LENGTHS)), body, False
    if kind == 3:
        cut = draw(st.integers(0, max(0, len(body) - 1)))
        return proper, body[:cut], False
    if kind == 4:
        return proper + coded, chunked(body, len(body) or 1), False
    if kind == 5:
        return proper + b"Content-Length: 0\r\n", body, False
    if kind == 6 and not body:
        return b"", b"", True
    return proper, body, True


@st.composite
def _spoiled(draw: Any, raw: bytes) -> bytes:
    """Bytes of the head cut, changed, repeated, or without any order."""
    at = draw(st.integers(0, min(len(raw) - 1, 400)))
    kind = draw(st.integers(0, 4))
    more: bytes = draw(st.binary(min_size=1, max_size=40))
    changed = raw[:at] + more[:4] + raw[at + 1 :]
    return (raw[:at], changed, raw[:at] + more + raw[at:], raw + raw, more)[kind]


@st.composite
def requests(draw: Any, service: Service) -> Request:
    """A request of one of the service's ways."""
    way: Way = draw(st.sampled_from(service.ways))
    others = (other.path for other in service.ways if not other.endless)
    line, whole = draw(_line(way, (*service.paths, *others)))
    body = draw(_body(way))
    framing, rest, framed = draw(_framed(body))
    whole = whole and framed and not way.endless
    head = line + b"Host: 127.0.0.1\r\nConnection: close\r\n" + framing
    own = {name.lower(): (name, value) for name, value in way.headers}
    more = draw(st.lists(st.sampled_from(_HEADERS), max_size=3)) if draw(st.booleans()) else []
    for name, value, answered in more:
        own[name.lower()] = (name, value)
        whole = whole and answered
    head += b"".join(b"%b: %b\r\n" % pair for pair in own.values())
    if draw(st.integers(0, _RARELY * 20)) == 0:
        head += b"".join(b"X-%d: y\r\n" % n for n in range(5000))
        whole = False
    raw = head + b"\r\n" + rest
    if draw(st.integers(0, _RARELY)) == 0:
        return Request(draw(_spoiled(raw)), False)
    return Request(raw, whole)
