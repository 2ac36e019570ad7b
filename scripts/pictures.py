#!/usr/bin/env python3
"""Draw the pictures of README and documentation from the results of a run.

docs/images/run.svg is the summary that `ape-load run` prints, docs/images/report.png the beginning
of the run's report. The second one needs Chromium.
Exit codes: 0 drawn, 1 failed, 2 no such run, or no Chromium.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ape_infra.cli.results import LATEST, one, report_of
from ape_infra.runs import live
from ape_infra.runs.store import StoredRun, StoreError
from ape_infra.runs.summary import Summary

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
COLUMNS = 80
# The first charts are the last thing on it.
WINDOW = "1200,1180"
MAX_BYTES = 200_000
# The picture loads nothing: viewers use a monospaced font of their own.
FONT_FACE = re.compile(r"\s*@font-face \{[^}]*\}")


def terminal(summary: Summary) -> str:
    """Return the summary of a run as it is on a terminal, as SVG."""
    console = Console(
        record=True, width=COLUMNS, highlight=False, force_terminal=True, file=io.StringIO()
    )
    console.print(Text("$ ape-load run", style="bold"))
    console.print(live.summary(summary), "")
    picture = console.export_svg(title="A run", unique_id="run")
    lines = FONT_FACE.sub("", picture).splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def screenshot(browser: str, page: Path, picture: Path) -> None:
    """Draw the beginning of a page. Raises CalledProcessError where the browser fails."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--user-data-dir={profile}", f"--window-size={WINDOW}"),
                *("--virtual-time-budget=5000", f"--screenshot={picture}"),
                page.resolve().as_uri(),
            ],
            check=True,
            timeout=120,
            stderr=subprocess.DEVNULL,
        )


def draw(found: StoredRun, browser: str, folder: Path) -> list[Path]:
    """Draw all pictures of a run; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [folder / "run.svg", folder / "report.png"]
    drawn[0].write_text(terminal(found.summary))
    screenshot(browser, report_of(found), drawn[1])
    return drawn


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the pictures of README and docs.")
    parser.add_argument("run", nargs="?", default=LATEST, help="name of a run (default: latest)")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the runs")
    parser.add_argument("--to", type=Path, default=ROOT / "docs/images", help="where to draw")
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        print(f"Chromium is not installed. Install one of {', '.join(BROWSERS)}.", file=sys.stderr)
        return 2
    try:
        found = one(options.results, options.run)
    except StoreError as error:
        print(error, file=sys.stderr)
        return 2
    large = False
    for picture in draw(found, browser, options.to):
        size = picture.stat().st_size
        print(f"{picture}: {size} bytes")
        large = large or size > MAX_BYTES
    if large:
        print(f"A picture has more than {MAX_BYTES} bytes: too large to commit.", file=sys.stderr)
    return int(large)


if __name__ == "__main__":
    sys.exit(main())
