"""A provider with OpenAI's API, such as Cerebras. Statuses and bodies are not changed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from multidict import CIMultiDict

from ape_proxy.errors import NO_RETRY, ProxyError
from ape_proxy.models import JSON, Answer
from ape_service import logs, trace

_log = logging.getLogger(__name__)
# The headers of the provider that a client may act on.
_KEPT = ("retry-after", "retry-after-ms", NO_RETRY, "x-request-id")
_KEPT_PREFIX = "x-ratelimit-"


class Upstream:
    """`timeout`: seconds for an answer, and between two pieces of a stream."""

    def __init__(self, name: str, base_url: str, key: str, timeout: float) -> None:
        self.name = name
        self._base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"}
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            # The limiter bounds the requests in flight.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=5),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent",),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def models(self) -> list[dict[str, Any]] | Answer:
        async with self._request("GET", "/models", None, self._timeout, False) as answer:
            content = b"".join([chunk async for chunk in answer.chunks])
        return Answer(answer.status, answer.content_type, answer.headers, _one(content))

    @asynccontextmanager
    async def ask(self, body: dict[str, Any], timeout: float) -> AsyncIterator[Answer]:
        asked = {"model": self.name} | body
        stream = bool(body.get("stream"))
        async with self._request("POST", "/chat/completions", asked, timeout, stream) as answer:
            yield answer

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: Any, timeout: float, stream: bool
    ) -> AsyncIterator[Answer]:
        assert self._session is not None, "open() comes first"
        try:
            async with self._session.request(
                method,
                self._base_url + path,
                json=body,
                headers=self._headers | trace.headers(logs.trace_id.get()),
                # A stream may last, as long as its pieces keep coming.
                timeout=aiohttp.ClientTimeout(
                    total=None if stream else timeout, connect=timeout, sock_read=self._timeout
                ),
                allow_redirects=False,
            ) as response:
                kept = CIMultiDict(
                    (name, value)
                    for name, value in response.headers.items()
                    if name.lower() in _KEPT or name.lower().startswith(_KEPT_PREFIX)
                )
                yield Answer(
                    response.status,
                    response.headers.get("Content-Type", JSON),
                    kept,
                    response.content.iter_any(),
                )
        except TimeoutError:
            message = f"The model did not answer within {self._timeout:g} s."
            raise ProxyError(504, "upstream_error", "upstream_timeout", message) from None
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            # Only the type: the message may quote an address.
            name = type(problem).__name__
            _log.warning("model unreachable", extra=logs.fields(error=name))
            raise ProxyError(
                502,
                "upstream_error",
                "upstream_unreachable",
                f"The model's API cannot be reached, or closed the connection ({name}).",
                transient=not isinstance(problem, aiohttp.ClientSSLError | ValueError),
            ) from None


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content
