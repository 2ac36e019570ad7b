"""Parsing of the stack config, which has flat keys and string values, into settings."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from ape_contracts.suggestions import did_you_mean
from ape_infra.config import rules
from ape_infra.config.errors import UNKNOWN_REMEDY, Problem, SettingsError, problems_of
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
    # Pulumi requires a default for every setting; the default of an optional object is {}.
    return None if value == {} else value


def parse(raw: Mapping[str, str], secrets: Collection[str] = ()) -> Settings:
    """Return the settings of a stack config: key without project -> value as a string.

    `secrets` has the names of those that are set. Raises SettingsError with every broken rule.
    """
    values: dict[str, dict[str, Any]] = defaultdict(dict)
    found: list[Problem] = []
    for key, text in raw.items():
        setting = _DECLARED.get(key)
        if setting is None:
            meant = did_you_mean(key, (*_DECLARED, *SECRETS))
            found.append((key, f"is not a setting.{meant} {UNKNOWN_REMEDY}."))
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
    """As `parse`, for a config that includes the secrets; their values are ignored."""
    secrets = [name for name in SECRETS if given.get(name)]
    return parse({k: v for k, v in given.items() if k not in SECRETS}, secrets)
