#!/usr/bin/env python3
"""The resource monitor, under its documented name; the same as `python -m monitoring`."""

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_PYTHON = _ROOT / ".ape" / "venv" / "bin" / "python"
sys.path.insert(0, str(_ROOT))

try:
    from monitoring.__main__ import main
except ModuleNotFoundError as error:
    # Called with the system's Python: the project's own has the packages.
    if not _PYTHON.exists() or sys.prefix == str(_ROOT / ".ape" / "venv"):
        sys.exit(f"resource-monitor: {error}. Set the project up with: make setup")
    os.execv(_PYTHON, [str(_PYTHON), *sys.argv])  # noqa: S606

if __name__ == "__main__":
    sys.exit(main())
