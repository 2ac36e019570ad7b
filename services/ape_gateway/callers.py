"""Whether a request comes from a program, or from a page that a person opened in a browser.

Any page could otherwise use the gateway, and the credentials in its config, through the published
port: from its own origin, or by a name of its own that resolves to this machine (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from contextvars import ContextVar
from functools import lru_cache
from urllib.parse import urlsplit

# The session of an agent that a request is of: routes to MCP servers have a session for each.
SESSION_HEADER = b"x-ape-session"
session: ContextVar[str] = ContextVar("session", default="")
_SESSION = re.compile(r"[0-9A-Za-z._-]{1,64}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Names of containers have no dot, and pages of the internet have one.
_SINGLE = re.compile(r"[a-z0-9_-]{1,63}")
_DOCKER_HOST = "host.docker.internal"


def set_session(given: str | None) -> None:
    """Take the header of a request; another text than an id counts as none."""
    session.set(given if given and _SESSION.fullmatch(given) else "")


@lru_cache(maxsize=256)
def is_own_origin(origin: str) -> bool:
    """Whether a page with that Origin is one of this machine."""
    return _host_of(origin) in _LOOPBACK


@lru_cache(maxsize=256)
def is_own_host(host: str) -> bool:
    """Whether a caller may use that Host: an address, or a name that no other site can have."""
    name = _host_of(f"//{host}")
    if name in _LOOPBACK or name == _DOCKER_HOST or _SINGLE.fullmatch(name):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_of(url: str) -> str:
    """The host of a URL, in lower case; empty if it has none, or is malformed."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
