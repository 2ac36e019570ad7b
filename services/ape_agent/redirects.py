"""The request that follows a redirect, as a browser would send it, or none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from ape_agent import loose
from ape_agent.calls import BODYLESS, Request, Target
from ape_contracts import paths

STATUSES = (301, 302, 303, 307, 308)
# Of one step.
MAX_HOPS = 10
_MAX_CHARS = 8 << 10
# Percent signs stay: a location is encoded already.
_SAFE = "%/?&=+,;:@!$'()*~[]|"


def next_request(
    request: Request, status: int, headers: dict[str, Any], target: Target
) -> Request | None:
    """The request that the answer to `request` redirects to; None if nothing is to be followed.

    Only within the target: the gateway sends every request to it, so one for another host would
    get cookies and tokens to a place that the redirect does not name.
    """
    location = headers.get("location")
    if status not in STATUSES or not isinstance(location, str) or len(location) > _MAX_CHARS:
        return None
    path = _path(location, request.path, target)
    if path is None or paths.problem(path) is not None:
        return None
    turns = status == 303 or (status in (301, 302) and request.method == "POST")
    method = "GET" if turns and request.method not in BODYLESS else request.method
    if (method, path) == (request.method, request.path) and "set-cookie" not in headers:
        # To itself, such as from http to https: the gateway would get the same answer again.
        return None
    keeps = method == request.method and method not in BODYLESS
    if keeps:
        return replace(request, path=path, query={})
    return replace(
        request, method=method, path=path, query={}, body=None, content_type="", encoding={}
    )


def _path(location: str, path: str, target: Target) -> str | None:
    """The path and query of a location below the target's base path; None for another place."""
    base = "/" + target.host.partition("/")[2].strip("/")
    base = base.rstrip("/")
    try:
        parts = urlsplit(urljoin(f"{base}{path}", location.strip()))
        is_url = bool(parts.scheme or parts.netloc)
    except ValueError:
        return None
    if is_url and (parts.scheme not in ("http", "https", "") or not target.is_same_host(parts)):
        return None
    found = parts.path or "/"
    if base:
        if found != base and not found.startswith(f"{base}/"):
            return None
        found = found[len(base) :] or "/"
    found += f"?{parts.query}" if parts.query else ""
    return quote(loose.clean(found), safe=_SAFE)
