"""The secrets of a stack in a pipeline's copy of the project (scripts/pipeline.sh)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ape_infra.config.errors import SettingsError
from ape_infra.config.parsing import parse_config
from ape_infra.config.project import config_key
from ape_infra.config.secrets import SECRETS, STAND_IN

# The keys of a stack config that belong to the passphrase or key of its secrets.
_ENCRYPTION = ("encryptionsalt", "encryptedkey", "secretsprovider")


def variables() -> dict[str, str]:
    """Secret -> the environment variable from which a pipeline sets it."""
    return {name: "APE_" + re.sub(r"(?=[A-Z])", "_", name).upper() for name in sorted(SECRETS)}


def with_stand_ins(document: Mapping[str, Any]) -> dict[str, Any]:
    """A stack config for a preview without secrets: stand-ins for those that it has or needs."""
    config: dict[str, Any] = {
        key: STAND_IN if isinstance(value, dict) and "secure" in value else value
        for key, value in (document.get("config") or {}).items()
    }
    given = {
        key.partition(":")[2]: value if isinstance(value, str) else json.dumps(value)
        for key, value in config.items()
        if key.startswith(config_key(""))
    }
    try:
        parse_config(given)
    except SettingsError as error:
        for name in SECRETS:
            if not given.get(name) and any(
                line.startswith(f"{config_key(name)}: is not set") for line in error.lines
            ):
                config[config_key(name)] = STAND_IN
    kept = {key: value for key, value in document.items() if key not in _ENCRYPTION}
    return {**kept, "config": config}


def main(arguments: list[str]) -> None:
    """`secrets`: print a line `NAME VARIABLE` for each. `stand-ins FILE`: rewrite FILE."""
    match arguments:
        case ["secrets"]:
            for name, variable in variables().items():
                print(name, variable)
        case ["stand-ins", name]:
            file = Path(name)
            file.write_text(yaml.safe_dump(with_stand_ins(yaml.safe_load(file.read_text()) or {})))
        case _:
            raise SystemExit(
                "usage: python -m ape_infra.automation.pipeline secrets | stand-ins FILE"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
