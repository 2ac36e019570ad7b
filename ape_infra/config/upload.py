"""The file that agents upload: of targetUpload, or of `upload` in the user's gateway config."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from ape_contracts.gateway_config import MAX_UPLOAD_BYTES, GatewayConfig
from ape_contracts.gateway_config import load as load_gateway_config
from ape_contracts.text import plain
from ape_infra.config.errors import SettingsError
from ape_infra.config.settings import Settings

SETTING = "targetUpload"
# A Swarm config holds at most 500 KB; the content is in base64.
MAX_SWARM_BYTES = 500_000 * 3 // 4


def in_config(settings: Settings, text: str, config: GatewayConfig) -> str:
    """The gateway's config with the setting in it. Raises SettingsError if both name a file."""
    given = settings.target.upload
    if given is None:
        return text
    if "upload" in config.model_fields_set:
        line = "is set, and `upload` in gatewayConfig, too. Remove one of the two."
        raise SettingsError.at(SETTING, line)
    return json.dumps({**json.loads(text), "upload": given.plain()})


def content(settings: Settings, root: Path, config: str) -> str | None:
    """The file's content in base64, as the gateway gets it; None: its config names no file.

    Raises SettingsError.
    """
    name = load_gateway_config(config).upload.file
    if not name:
        return None
    at, folder = SETTING, root
    if settings.target.upload is None:
        at, folder = "gatewayConfig", (root / settings.target.gateway_config).parent
    path = folder / name
    is_swarm = settings.platform.runtime == "swarm"
    most = MAX_SWARM_BYTES if is_swarm else MAX_UPLOAD_BYTES
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except (OSError, ValueError) as error:
        # ValueError: a path with a zero character.
        reason = getattr(error, "strerror", None) or "is not a path"
        raise SettingsError.at(
            at, f"{plain(path)}: {reason}. Name a file that can be read in `file`."
        ) from None
    if len(raw) > most:
        where = " on Swarm" if is_swarm else ""
        raise SettingsError.at(
            at,
            f"{plain(path)}: is larger than {most >> 10} KiB, the maximum{where}. Name a smaller "
            "file.",
        )
    return base64.b64encode(raw).decode()
