"""What `ape-load run` reads of a run: GET /results, /results/sessions and /results/transcripts."""

from __future__ import annotations

import hmac
import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ape_contracts import report_token
from ape_gateway.results import Results

_BEARER = "bearer "


def is_control(key: str, authorization: str) -> bool:
    """Whether the header has the control token of the key; without a key none is needed."""
    if not key:
        return True
    scheme, token = authorization[: len(_BEARER)], authorization[len(_BEARER) :].strip()
    expected = report_token.control(key).encode()
    # Bytes of a header need not be ASCII, which texts must be here.
    return scheme.lower() == _BEARER and hmac.compare_digest(
        token.encode("utf-8", "replace"), expected
    )


def routes(results: Results, key: str) -> list[Route]:
    """`key`: see GatewaySettings.report_key_file."""

    def refused(request: Request) -> Response | None:
        if is_control(key, request.headers.get("authorization", "")):
            return None
        message = "The results need the control token of the stack as a bearer token."
        return JSONResponse({"error": "unauthorized", "message": message}, 401)

    async def totals(request: Request) -> Response:
        return refused(request) or _json(json.dumps(results.plain(), separators=(",", ":")))

    async def sessions(request: Request) -> Response:
        if answer := refused(request):
            return answer
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdecimal() and len(after) < 16):
            message = "after: must be the number of a session in these results, from 0."
            return JSONResponse({"error": "bad_request", "message": message}, 422)
        return _json(results.sessions_json(int(after)))

    async def transcripts(request: Request) -> Response:
        return refused(request) or _json(results.transcripts_json())

    return [
        Route("/results", totals, methods=["GET"]),
        Route("/results/sessions", sessions, methods=["GET"]),
        Route("/results/transcripts", transcripts, methods=["GET"]),
    ]


def _json(text: str | bytes) -> Response:
    return Response(text, media_type="application/json")
