"""What is written from the settings: the config block of `Pulumi.yaml`, the reference page.

python -m ape_infra.config.generate           # write
python -m ape_infra.config.generate --check   # exit code 1 where a file differs
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import yaml

from ape_infra.config.secrets import SECRETS
from ape_infra.config.settings import DeclaredSetting, Settings, declared_settings

_CONFIG = "config:\n"


def _schema(setting: DeclaredSetting) -> dict[str, Any]:
    found = setting.model.model_json_schema(by_alias=True)["properties"][setting.key]
    return dict(found)


def _type(schema: dict[str, Any]) -> str:
    """The type of Pulumi's schema: string, integer, boolean, array or object."""
    if "type" in schema:
        return str(schema["type"])
    options = (option.get("type", "object") for option in schema.get("anyOf", []))
    return next((kind for kind in options if kind != "null"), "object")


def config_block() -> dict[str, dict[str, Any]]:
    """`config:` of Pulumi.yaml: setting or secret -> type, default, description."""
    made: dict[str, dict[str, Any]] = {}
    for setting in declared_settings():
        schema, default = _schema(setting), setting.field.default
        kind = _type(schema)
        entry = {
            "type": kind,
            "default": {} if default is None else default,
            "description": setting.field.description,
        }
        if kind == "array":
            item = schema.get("items", {})
            entry["items"] = {"type": item.get("type", "object")}
        made[setting.key] = entry
    for name, description in SECRETS.items():
        made[name] = {"type": "string", "default": "", "description": description}
    return made


def pulumi_yaml(current: str) -> str:
    """`Pulumi.yaml` with its config block written anew; the rest stays."""
    head, _, _ = current.partition(_CONFIG)
    block = yaml.safe_dump(config_block(), sort_keys=False, width=100, allow_unicode=True)
    return head + _CONFIG + "".join(f"  {line}\n" for line in block.splitlines())


def _limits(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "at least {}",
        "maximum": "at most {}",
        "maxLength": "at most {} characters",
        "minLength": "at least {} characters",
        "pattern": "matches `{}`",
    }
    found = [text.format(schema[key]) for key, text in words.items() if key in schema]
    if "enum" in schema:
        found.append("one of " + ", ".join(f"`{value}`" for value in schema["enum"]))
    return "; ".join(found)


def _rows(settings: list[DeclaredSetting]) -> Iterator[str]:
    yield "| setting | type | default | limits | what it does |"
    yield "|---|---|---|---|---|"
    for setting in settings:
        schema, default = _schema(setting), setting.field.default
        shown = "" if default in (None, "", []) else f"`{json.dumps(default)}`"
        cells = (
            f"`{setting.key}`",
            _type(schema),
            shown,
            _limits(schema),
            setting.field.description or "",
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def settings_page() -> str:
    """The reference page of settings, in Markdown."""
    lines = [
        "# Settings",
        "",
        "Written by `make generate` from `ape_infra/config/`. Set one with "
        "`pulumi config set KEY VALUE`;",
        "`--path` reaches into lists and objects. An error names a setting by its path, such as",
        "`ape:tiers[2].memoryMb`.",
    ]
    for group, field in Settings.model_fields.items():
        model: Any = field.annotation
        module = sys.modules[model.__module__]
        own = [setting for setting in declared_settings() if setting.group == group]
        summary = (module.__doc__ or "").strip().partition("\n")[0]
        lines += ["", f"## {group.capitalize()}", "", summary, "", *_rows(own)]
    lines += ["", "## Secrets", "", "Set with `pulumi config set --secret KEY`.", ""]
    lines += ["| secret | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {description} |" for name, description in SECRETS.items()]
    return "\n".join(lines) + "\n"
