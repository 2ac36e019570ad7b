#!/usr/bin/env python3
"""The resource monitor by the seed's name: the same as `python -m monitoring`."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT / "services" / part) for part in ("monitor", "common")]

from monitoring.__main__ import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
