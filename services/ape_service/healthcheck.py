"""`python -m ape_service.healthcheck [url]`: exit code 0 if GET url answers 200, else 1.

Sockets only: the check runs every few seconds in every container.
"""

from __future__ import annotations

import socket
import sys

DEFAULT_URL = "http://127.0.0.1:8080/health"


def healthy(url: str = DEFAULT_URL, timeout: float = 3.0) -> bool:
    """Whether `url` (http only) answers 200 within `timeout` seconds."""
    netloc, _, path = url.removeprefix("http://").partition("/")
    host, _, port = netloc.partition(":")
    request = f"GET /{path} HTTP/1.0\r\nHost: {netloc}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((host, int(port or 80)), timeout) as connection:
            connection.sendall(request.encode())
            status_line = connection.makefile("rb").readline(256).split()
    except (OSError, ValueError):
        return False
    return len(status_line) > 1 and status_line[1] == b"200"


if __name__ == "__main__":
    sys.exit(not healthy(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_URL))
