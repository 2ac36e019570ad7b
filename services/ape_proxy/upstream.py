"""A provider with OpenAI's API, such as Cerebras. Statuses and bodies pass as they are."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from ape_proxy.errors import NO_RETRY, ProxyError
from ape_proxy.models import JSON, Answer
from ape_service import logs, trace

_log = logging.getLogger(__name__)
# Of the provider's headers, those that a client may act on.
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
            # The limiter bounds what is under way.
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
                # A stream may go on for long, as long as it goes on.
                timeout=aiohttp.ClientTimeout(
                    total=None if stream else timeout, connect=timeout, sock_read=self._timeout
                ),
                allow_redirects=False,
            ) as response:
                kept = {
                    name: value
                    for name, value in response.headers.items()
                    if name.lower() in _KEPT or name.lower().startswith(_KEPT_PREFIX)
                }
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
            # The type says enough, and the message may quote an address.
            name = type(problem).__name__
            _log.warning("model unreachable", extra=logs.fields(error=name))
            raise ProxyError(
                502,
                "upstream_error",
                "upstream_unreachable",
                f"The model's API cannot be reached, or broke off ({name}).",
                transient=not isinstance(problem, aiohttp.ClientSSLError | ValueError),
            ) from None


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a provider asks to wait: Retry-After-Ms, or Retry-After as number or date."""
    lower = {name.lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(lower[name]) * unit
        except (KeyError, ValueError):
            continue
        return seconds if 0 <= seconds < float("inf") else None
    try:
        return max(0.0, parsedate_to_datetime(lower["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError, OverflowError):
        return None
