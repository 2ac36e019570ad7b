"""Cost and accuracy of the monitor.

    .ape/run python -m bench.monitor synthetic         # 1000 containers, cgroups in memory
    .ape/run python -m bench.monitor real              # 200 containers, against `docker stats`
    .ape/run python -m bench.monitor accuracy          # stress-ng, against the kernel's counters

Each prints one line of JSON; exit code 1 where a goal is missed. `real` and `accuracy` need Docker,
root and Debian's busybox-static and stress-ng. They remove their containers and images at the end.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from typing import Any

from bench.monitor import accuracy, real, synthetic

PARTS = {"synthetic": synthetic.run, "real": real.run, "accuracy": accuracy.run}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.monitor", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument(
        "--seconds", type=int, default=60, help="measure for this many seconds (default 60)"
    )
    parser.add_argument(
        "--containers", type=int, help="number of containers (default: that of the goal)"
    )
    options = parser.parse_args()
    # A terminated run also removes its containers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found: dict[str, Any] = PARTS[options.part](options.seconds, options.containers)
    print(json.dumps(found))
    return 0 if all(found["goals"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
