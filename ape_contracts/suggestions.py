"""The name that was meant by one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that begins with a space, or nothing where no name is similar."""
    # In another case, a name is the same; difflib finds it less similar than another one.
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), names, n=1)
    return f" Did you mean {names[found[0]]}?" if found else ""
