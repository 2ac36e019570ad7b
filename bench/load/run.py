"""Whether the figures of `ape-load run` are true. Services are processes; needs no Docker.

    .ape/run python -m bench.load.run                          all parts, 20 minutes
    .ape/run python -m bench.load.run --only stall
    .ape/run python -m bench.load.run --seconds 15 --periods 1 --tries 1     a trial

The parts, each with its rules: percentiles.py (the target's own log, and Locust), stall.py (a
target that stands still), compared.py (runs compared). Exit code 1 if a rule is broken. Locust is
installed in an environment of its own in a temporary folder, unless --locust names its command.

Percentiles are those of a machine that has time for all of them. With other work on it, run the
bench with priority: nice -n -10.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.load import compared, percentiles, stall

PARTS = {"percentiles": percentiles, "stall": stall, "compared": compared}


def measured(part: str, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    if part == "percentiles":
        command = percentiles.locust_of(given.locust, folder)
        return percentiles.measure(given.seconds, command, folder)
    if part == "stall":
        return stall.measure(given.periods, folder)
    return compared.measure(given.tries, given.at_once, given.seconds_compared, folder)


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", choices=PARTS, action="append", help="a part; can be repeated")
    options.add_argument("--seconds", type=float, default=60, help="of the run, and of Locust")
    options.add_argument("--locust", type=Path, help="its command")
    options.add_argument("--periods", type=int, default=3, help="of 20 s with a pause")
    options.add_argument("--tries", type=int, default=20, help="of comparisons")
    options.add_argument("--at-once", type=int, default=5, help="stacks for the tries")
    options.add_argument("--seconds-compared", type=float, default=40, help="of a compared run")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    found: dict[str, Any] = {}
    missed: list[str] = []
    for part in given.only or PARTS:
        with tempfile.TemporaryDirectory() as name:
            found[part] = measured(part, given, Path(name))
        missed += (rules := PARTS[part].broken(found[part]))
        if not given.json:
            print(f"{part}\n{PARTS[part].text(found[part])}")
            print("".join(f"broken rule: {rule}\n" for rule in rules))
    if given.json:
        print(json.dumps(found | {"broken_rules": missed}))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
