"""The error of a caller's request."""

from __future__ import annotations


class WireError(Exception):
    """The request breaks the wire format; the message names the key and the rule."""
