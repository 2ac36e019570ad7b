"""A provider with OpenAI's API, such as Cerebras."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from multidict import CIMultiDict

from ape_contracts import VERSION
from ape_contracts.providers import COMPLETIONS, MODELS, endpoint
from ape_contracts.service_settings import ProxySettings
from ape_proxy.errors import NO_RETRY, ProxyError
from ape_proxy.models import Answer
from ape_proxy.shaping import Shape, shape_of, shaped
from ape_service import logs, trace
from ape_service.settings import problem, read_secret

_log = logging.getLogger(__name__)
USER_AGENT = f"ape/{VERSION}"
# The headers of the provider that a client may act on.
_KEPT = ("retry-after", "retry-after-ms", NO_RETRY, "x-request-id")
_KEPT_PREFIXES = ("x-ratelimit-", "ratelimit")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
_HTTP_PROXY = re.compile(r"https?://[^/\s]+/?")
_NOT_A_NAME = "is not the name of a header. Correct it."
# Shorter texts are not replaced in what the provider answers.
_MIN_SECRET = 8


@dataclass(frozen=True)
class Connection:
    """How to reach a provider. Without `key_header` the key is a bearer token.

    `tls`: None for the CAs of the system. Seconds: `connect` for the connection, `first_byte` until
    the answer begins, `timeout` for an answer, and between two pieces of a stream.
    """

    base_url: str
    key: str = ""
    key_header: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    http_proxy: str = ""
    connect: float = ProxySettings.connect_seconds
    first_byte: float = ProxySettings.first_byte_seconds
    timeout: float = ProxySettings.request_timeout_seconds

    def all_headers(self) -> CIMultiDict[str]:
        made = CIMultiDict({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        if self.key and self.key_header:
            made[self.key_header] = self.key
        elif self.key:
            made["Authorization"] = f"Bearer {self.key}"
        for name, value in self.headers.items():
            made[name] = value
        return made


def upstream_of(settings: ProxySettings) -> Upstream:
    """Raises ServiceSettingsError."""
    try:
        endpoint(settings.base_url, COMPLETIONS)
    except ValueError as error:
        raise problem("base_url", error) from None
    if settings.http_proxy and not _HTTP_PROXY.fullmatch(settings.http_proxy):
        message = "is not the URL of an HTTP proxy. Write it as in http://proxy:3128."
        raise problem("http_proxy", message)
    if settings.key_header and not _HEADER_NAME.fullmatch(settings.key_header):
        raise problem("key_header", f"{settings.key_header!r} {_NOT_A_NAME}")
    for name, value in settings.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise problem("headers", f"{name!r} {_NOT_A_NAME}")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            message = f"the value of {name} must be text of printable ASCII characters. Correct it."
            raise problem("headers", message)
    return Upstream(
        settings.name,
        Connection(
            settings.base_url,
            read_secret("api_key_file", settings.api_key_file),
            settings.key_header,
            settings.headers,
            _tls(settings.ca_file),
            settings.http_proxy,
            settings.connect_seconds,
            settings.first_byte_seconds,
            settings.request_timeout_seconds,
        ),
        shape_of(settings),
    )


def _tls(ca_file: str) -> ssl.SSLContext | None:
    """The CAs of the system, and those of the file."""
    if not ca_file:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        reason = (
            error.strerror if not isinstance(error, ssl.SSLError) else "not certificates in PEM"
        )
        raise problem("ca_file", f"{ca_file}: {reason}. Name a PEM file.") from None
    return context


class Upstream:
    def __init__(self, name: str, connection: Connection, shape: Shape | None = None) -> None:
        self.name = name
        self._connection, self._shape = connection, replace(shape or Shape(), model=name)
        self._headers = connection.all_headers()
        self._completions = endpoint(connection.base_url, COMPLETIONS)
        self._models = endpoint(connection.base_url, MODELS)
        values = (connection.key, *connection.headers.values())
        self.secrets = tuple(value for value in values if len(value) >= _MIN_SECRET)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            # The limiter bounds the requests in flight.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=5),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def models(self) -> list[dict[str, Any]] | Answer:
        timeout = self._connection.timeout
        async with self._request("GET", self._models, None, timeout, False) as answer:
            content = b"".join([chunk async for chunk in answer.chunks])
        return Answer(answer.status, answer.content_type, answer.headers, _one(content))

    def shape(self, body: dict[str, Any]) -> dict[str, Any]:
        return shaped(body, self._shape)

    @asynccontextmanager
    async def ask(self, body: dict[str, Any], timeout: float) -> AsyncIterator[Answer]:
        stream = bool(body.get("stream"))
        async with self._request("POST", self._completions, body, timeout, stream) as answer:
            yield answer

    @asynccontextmanager
    async def _request(
        self, method: str, url: str, body: Any, timeout: float, stream: bool
    ) -> AsyncIterator[Answer]:
        assert self._session is not None, "open() comes first"
        connection, begun = self._connection, False
        first_byte = min(connection.first_byte, timeout)
        try:
            async with asyncio.timeout(first_byte):
                response = await self._session.request(
                    method,
                    url,
                    json=body,
                    headers={**self._headers, **trace.headers(logs.trace_id.get())},
                    # A stream may last, as long as its pieces keep coming.
                    timeout=aiohttp.ClientTimeout(
                        total=None if stream else timeout,
                        connect=connection.connect,
                        sock_read=connection.timeout,
                    ),
                    allow_redirects=False,
                    proxy=connection.http_proxy or None,
                    ssl=connection.tls or True,
                )
            begun = True
            async with response:
                yield Answer(
                    response.status,
                    response.headers.get("Content-Type", ""),
                    _kept(response),
                    response.content.iter_any(),
                )
        except aiohttp.ConnectionTimeoutError:
            raise _unreachable(f"no connection within {connection.connect:g} s", True) from None
        except TimeoutError:
            late = (
                f"did not answer within {first_byte:g} s"
                if not begun
                else f"sent nothing of its answer for {connection.timeout:g} s"
                if stream
                else f"did not end its answer within {timeout:g} s"
            )
            message = f"The model {late}."
            raise ProxyError(504, "upstream_error", "upstream_timeout", message) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Only the type: the message may quote an address.
            transient = not isinstance(error, aiohttp.ClientSSLError | ValueError)
            raise _unreachable(type(error).__name__, transient) from None


def _unreachable(reason: str, transient: bool) -> ProxyError:
    _log.warning("model unreachable", extra=logs.fields(error=reason))
    return ProxyError(
        502,
        "upstream_error",
        "upstream_unreachable",
        f"The model's API cannot be reached, or closed the connection ({reason}).",
        transient=transient,
    )


def _kept(response: aiohttp.ClientResponse) -> CIMultiDict[str]:
    return CIMultiDict(
        (name, value)
        for name, value in response.headers.items()
        if name.lower() in _KEPT or name.lower().startswith(_KEPT_PREFIXES)
    )


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content
