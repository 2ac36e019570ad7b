"""The answers of the proxy that are not the model's, in OpenAI's error form."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from aiohttp import web

NO_RETRY = "x-should-retry"
QUOTA = "quota_exhausted"
BUDGET = "budget_exhausted"


class ProxyError(Exception):
    """An answer other than the model's: `status`, OpenAI's `type`, `code` and `message`.

    `retry_after`: seconds after which the client may retry, if a retry helps. `transient`: whether
    the proxy itself may retry. `asked`: whether the request reached the model; then nobody but the
    proxy retries it.
    """

    # Seconds that the provider asks for.
    wait: float | None = None
    asked = False
    # Whether a retry fails as well, until what `retry_after` states.
    final = False

    def __init__(
        self,
        status: int,
        kind: str,
        code: str,
        message: str,
        *,
        retry_after: float | None = None,
        transient: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.code = status, kind, code
        self.retry_after, self.transient = retry_after, transient

    @property
    def cause(self) -> str:
        """The label of a retry's cause."""
        return self.code

    def response(self) -> web.Response:
        body = {
            "error": {
                "message": str(self),
                "type": self.kind,
                "param": None,
                "code": self.code,
            }
        }
        answer = web.json_response(body, status=self.status)
        if self.retry_after is not None:
            answer.headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.retry_after is None or self.asked or self.final:
            # The official clients do not retry after it.
            answer.headers[NO_RETRY] = "false"
        return answer


class Rejected(ProxyError):
    """The upstream's own rejection: its status, headers, error code and words.

    `body`: its JSON object, which is passed on unchanged; empty: it was not a JSON object.
    """

    asked = True

    def __init__(
        self,
        status: int,
        code: str,
        words: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        wait: float | None,
        transient: bool,
    ) -> None:
        super().__init__(
            status, "upstream_error", code or "upstream_error", words, transient=transient
        )
        self._body, self._headers, self.wait = body, headers, wait

    @property
    def cause(self) -> str:
        return str(self.status)

    def response(self) -> web.Response:
        made = super().response()
        if self._body:
            made = web.Response(
                body=self._body, status=self.status, content_type="application/json"
            )
        made.headers.update(self._headers)
        made.headers[NO_RETRY] = "false"
        return made


def bad_request(code: str, message: str, status: int = 400) -> ProxyError:
    return ProxyError(status, "invalid_request_error", code, message)


def bad_answer(words: str, *, transient: bool = True) -> ProxyError:
    """502: the upstream's answer has no message."""
    message = f"The model's answer is not a chat completion: {words}"
    return ProxyError(502, "upstream_error", "bad_answer", message, transient=transient)


def overloaded(code: str, message: str, retry_after: float) -> ProxyError:
    """503: the request had no effect, and may be sent again."""
    return ProxyError(503, "overloaded_error", code, message, retry_after=retry_after)


def quota_exhausted(seconds: float, words: str) -> ProxyError:
    """429: the provider admits no request for longer than a completion may take."""
    message = f"The provider admits no request until {utc_after(seconds)}"
    made = ProxyError(
        429,
        "rate_limit_error",
        QUOTA,
        f"{message}: {words}" if words else f"{message}.",
        retry_after=seconds,
    )
    made.final = True
    return made


def budget_exhausted(words: str) -> ProxyError:
    """402: the spend limit of the stack admits no request of this size."""
    return ProxyError(
        402,
        "insufficient_quota",
        BUDGET,
        f"The spend limit of the stack is reached: {words} since the proxy started. Raise it, or "
        "end the test.",
    )


def utc_after(seconds: float) -> str:
    """The time in that many seconds."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() + seconds))
