"""The frame of every page: its styles, its two scripts, its data, and its policy."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ape_infra.observability.text import render

FOLDER = Path(__file__).parent
NOT_IN_HTML = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&'\u2028\u2029"})


def embedded(data: Any) -> Markup:
    """JSON that is text in HTML: it can end no element, and is one line to a script."""
    return Markup(json.dumps(data, separators=(",", ":")).translate(NOT_IN_HTML))  # noqa: S704


@functools.cache
def _file(name: str) -> Markup:
    """A file of this package, as it is."""
    return Markup((FOLDER / name).read_text("utf-8"))  # noqa: S704


def framed(template: str, data: Mapping[str, Any], **values: Any) -> str:
    """Return a page that loads nothing. `data`: its charts, as `charts.of_run` returns them.

    All values are escaped. The policy lets a browser run the two scripts of this package only.
    """
    scripts = [_file("vendor/uPlot.iife.min.js"), _file("charts.js")]
    digests = [base64.b64encode(hashlib.sha256(x.encode()).digest()).decode() for x in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return render(
        "ape_infra.runs.pages",
        template,
        policy=f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'",
        styles=_file("vendor/uPlot.min.css") + _file("page.css"),
        scripts=scripts,
        license=_file("vendor/uPlot.LICENSE"),
        data=embedded(data),
        has_charts=bool(data["charts"]),
        shaded=bool(data["bands"]),
        **values,
    )
