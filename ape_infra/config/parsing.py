"""From the stack config, flat keys and texts, to settings."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from ape_infra.config import rules
from ape_infra.config.errors import Problem, SettingsError, problems_of
from ape_infra.config.secrets import SECRETS
from ape_infra.config.settings import Settings, declared_settings

_DECLARED = {setting.key: setting for setting in declared_settings()}


def _value(text: str, annotation: Any) -> Any:
    if annotation is str:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    # Pulumi wants a default for every setting, and an object has no "none".
    return None if value == {} else value


def parse(raw: Mapping[str, str], secrets: Collection[str] = ()) -> Settings:
    """Settings from the stack config as Pulumi hands it over: key without project -> string.

    `secrets` names the secrets that are set. Raises SettingsError with every broken rule.
    """
    values: dict[str, dict[str, Any]] = defaultdict(dict)
    found: list[Problem] = []
    for key, text in raw.items():
        setting = _DECLARED.get(key)
        if setting is None:
            sentence = "is not a setting. See `Pulumi.yaml` for the settings there are; remove or "
            found.append((key, sentence + "correct it."))
            continue
        values[setting.group][key] = _value(text, setting.field.annotation)
    groups = {}
    for group, holder in Settings.model_fields.items():
        model: Any = holder.annotation
        try:
            groups[group] = model.model_validate(values[group])
        except ValidationError as error:
            found += problems_of(error)
    if found:
        raise SettingsError.of(found)
    settings = Settings(**groups)
    if broken := rules.problems(settings, secrets):
        raise SettingsError.of(broken)
    return settings


def parse_config(given: Mapping[str, str]) -> Settings:
    """As `parse`, of a config that holds the secrets too; their values are not looked at."""
    secrets = [name for name in SECRETS if given.get(name)]
    return parse({k: v for k, v in given.items() if k not in SECRETS}, secrets)
