"""The proxy's own answers, in OpenAI's error form."""

from __future__ import annotations

import math

from aiohttp import web

NO_RETRY = "x-should-retry"


class ProxyError(Exception):
    """An answer other than the model's: `status`, OpenAI's `type`, `code` and `message`.

    `retry_after`: seconds after which the client may retry, if a retry helps. `transient`: whether
    the proxy itself may retry at once.
    """

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
        else:
            # The official clients do not retry after it.
            answer.headers[NO_RETRY] = "false"
        return answer


def bad_request(code: str, message: str, status: int = 400) -> ProxyError:
    return ProxyError(status, "invalid_request_error", code, message)


def overloaded(code: str, message: str, retry_after: float) -> ProxyError:
    """503: the request had no effect, and may be sent again."""
    return ProxyError(503, "overloaded_error", code, message, retry_after=retry_after)
