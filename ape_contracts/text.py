"""Text of somebody else's, as it is shown to people."""

from __future__ import annotations


def plain(text: object, *, mark: str = "", lines: bool = False) -> str:
    """Return the text on one line, with nothing in it that a terminal or a page would obey.

    Control characters, line breaks and marks that turn or hide text are shown as escapes such as
    `\\x1b`, or as `mark`. `lines`: keep line breaks, of a text that is ours otherwise.
    """
    return "".join(
        c
        if c.isprintable() or (lines and c == "\n")
        else mark or c.encode("unicode_escape", "replace").decode()
        for c in str(text)
    )
