"""What `ape-load run` reads of a run: GET /results, /results/sessions and /results/transcripts."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ape_contracts import report_token
from ape_gateway.results import Results

_BEARER = "bearer "


def has_control(key: str, authorization: str) -> bool:
    """Whether the header has the control token of the key; without a key none is needed."""
    scheme, token = authorization[: len(_BEARER)], authorization[len(_BEARER) :].strip()
    return not key or (scheme.lower() == _BEARER and report_token.is_control(key, token))


def routes(results: Results, key: str) -> list[Route]:
    """`key`: see GatewaySettings.report_key_file."""

    def refused(request: Request) -> Response | None:
        if has_control(key, request.headers.get("authorization", "")):
            return None
        message = "The results need the control token of the stack as a bearer token."
        return JSONResponse({"error": "unauthorized", "message": message}, 401)

    async def totals(request: Request) -> Response:
        if answer := refused(request):
            return answer
        text = bytearray()
        for piece in results.pieces():
            text += piece
            # Requests that are being measured do not wait for this one.
            await asyncio.sleep(0)
        return _json(bytes(text))

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


def _json(text: bytes) -> Response:
    return Response(text, media_type="application/json")
