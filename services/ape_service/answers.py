"""Errors of services in JSON."""

from __future__ import annotations

from aiohttp import web


def error(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    """{"error": code, "message": message} with that status."""
    return web.json_response({"error": code, "message": message}, status=status, headers=headers)
