"""The settings of a stack as a list: value, default, and the source of the value."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ape_contracts.suggestions import did_you_mean
from ape_infra.config.errors import SettingsError
from ape_infra.config.project import config_key
from ape_infra.config.secrets import SECRETS
from ape_infra.config.settings import DeclaredSetting, declared_settings

Source = Literal["stack config", "Pulumi.yaml", "default", "not set"]
SECRET = "[secret]"
SECRETS_GROUP, UNKNOWN_GROUP = "secrets", "unknown"
DECLARED = {setting.key: setting for setting in declared_settings()}


@dataclass(frozen=True)
class Listed:
    """One setting. `value`, `default`: as the stack config has them; a secret has no value."""

    key: str
    group: str
    value: str
    default: str
    source: Source
    description: str

    @property
    def is_changed(self) -> bool:
        return self.source not in ("default", "not set")

    def data(self) -> dict[str, Any]:
        return asdict(self)


def default_of(setting: DeclaredSetting) -> str:
    """The default as the text of a stack config."""
    default = setting.field.default
    if isinstance(default, str):
        return default
    return json.dumps({} if default is None else default, separators=(",", ":"), default=str)


def listed(stack: Mapping[str, str], project: Mapping[str, str]) -> list[Listed]:
    """Every setting and secret, and then the keys of the stack config that are neither."""
    found = [_setting(setting, stack, project) for setting in DECLARED.values()]
    for key, text in SECRETS.items():
        given = bool(stack.get(key))
        value, source = (SECRET, "stack config") if given else ("", "not set")
        found.append(Listed(key, SECRETS_GROUP, value, "", source, text))  # type: ignore[arg-type]
    found += [
        Listed(key, UNKNOWN_GROUP, value, "", "stack config", "Not a setting.")
        for key, value in stack.items()
        if key not in DECLARED and key not in SECRETS
    ]
    return found


def _setting(
    setting: DeclaredSetting, stack: Mapping[str, str], project: Mapping[str, str]
) -> Listed:
    key, default = setting.key, default_of(setting)
    value, source = default, "default"
    if key in stack:
        value, source = stack[key], "stack config"
    elif project.get(key, default) != default:
        value, source = project[key], "Pulumi.yaml"
    text = setting.field.description or ""
    return Listed(key, setting.group, value, default, source, text)  # type: ignore[arg-type]


def own_key(text: str) -> str:
    """The setting that a user names, without the project: agents for ape:agents."""
    return text.removeprefix(config_key(""))


def root_of(key: str) -> str:
    """The setting that `key` leads into, such as tiers of tiers[2].memoryMb.

    Raises SettingsError where it is not one.
    """
    root = re.split(r"[.\[]", key, maxsplit=1)[0]
    if root in DECLARED or root in SECRETS:
        return root
    meant = did_you_mean(root, (*DECLARED, *SECRETS))
    raise SettingsError.at(key, f"is not a setting.{meant} `ape-load config` lists all settings.")


def check_form(key: str, value: str) -> None:
    """Raise SettingsError where a list or an object is not JSON."""
    setting = DECLARED.get(key)
    if setting is None or isinstance(setting.field.default, str | int | float | bool):
        return
    try:
        whole = isinstance(json.loads(value), list | dict)
    except ValueError:
        whole = False
    if not whole:
        raise SettingsError.at(
            key, f'is {json.dumps(value)}; a list or an object is JSON, such as \'["a", "b"]\'.'
        )
