"""The files of a new project, from the answers to a few questions."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ape_contracts.providers import PROVIDERS, Provider
from ape_infra.config import document
from ape_infra.config.files import demo_file
from ape_infra.config.parsing import parse
from ape_infra.config.project import PROJECT_FILE, SOURCE_ROOT
from ape_infra.config.secrets import SECRETS
from ape_infra.config.target import MCP, TargetSettings

# Part of the names of containers, networks and volumes.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
GATEWAY, RECORDING = "gateway.json", "recording.jsonl"
FILES = {
    PROJECT_FILE: "Pulumi.yaml.j2",
    "Pulumi.dev.yaml": "Pulumi.dev.yaml.j2",
    "Pulumi.prod.yaml": "Pulumi.prod.yaml.j2",
    "__main__.py": "__main__.py.j2",
    "README.md": "README.md.j2",
    ".gitignore": "gitignore.j2",
}
ANY_TOOL = {"method": "POST", "path": "/tools/{name}", "status": 200}
START_PAGE = {"method": "GET", "path": "/", "description": "The start page."}


def valid_name(folder: str) -> str:
    """A valid name for a project in a folder of this name."""
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.lower()).strip("._-")[:40]
    return name or "load-test"


@dataclass(frozen=True)
class ModelChoice:
    """`kind`: offline, recorded, or a provider. `name` and `base_url`: None for the defaults."""

    kind: str
    name: str | None = None
    base_url: str | None = None

    @property
    def profile(self) -> Provider | None:
        return PROVIDERS.get(self.kind)

    @property
    def lacks_url(self) -> bool:
        return self.profile is not None and not (self.base_url or self.profile.base_url)

    @property
    def lacks_name(self) -> bool:
        return self.profile is not None and not (self.name or self.profile.model)

    def settings(self) -> dict[str, str]:
        """The settings of a stack with this model."""
        if self.profile is None:
            recording = {"modelRecording": RECORDING} if self.kind == "recorded" else {}
            return {"model": self.kind, **recording}
        own = {"modelName": self.name, "modelBaseUrl": self.base_url}
        return {
            "model": "provider",
            "provider": self.kind,
            **{key: value for key, value in own.items() if value},
        }


@dataclass(frozen=True)
class NewProject:
    """`target`: a URL, or `demo`. `openapi`: a file to copy, or None."""

    name: str
    target: str
    openapi: Path | None
    model: ModelChoice

    @property
    def _demo(self) -> bool:
        return self._settings.is_demo

    @property
    def _settings(self) -> TargetSettings:
        return TargetSettings.model_validate({"target": self.target})

    def scenario(self) -> dict[str, Any]:
        """The settings of the scenario. Raises SettingsError where the OpenAPI file is unusable."""
        if self._demo:
            given = json.loads(demo_file(self._settings, "scenario.json"))
            listed = {"targetEndpoints": given["endpoints"]} if "endpoints" in given else {}
            return {"targetGoal": given["goal"], **listed, "targetSuccess": given["success"]}
        if self._settings.is_mcp:
            return {"targetGoal": "Use a tool of the server.", "targetSuccess": ANY_TOOL}
        success = {"method": "GET", "path": "/", "status": 200}
        if self.openapi is None:
            return {
                "targetGoal": "Open the start page.",
                "targetEndpoints": [START_PAGE],
                "targetSuccess": success,
            }
        settings = {
            "target": self.target,
            "targetGoal": "Call each endpoint once.",
            "targetOpenapi": str(self.openapi.resolve()),
            "targetSuccess": json.dumps(success),
        }
        operations = document.read(parse(settings), Path.cwd()).operations.operations
        first = min(operations, key=lambda each: (each.method != "GET", "{" in each.path))
        success |= {"method": first.method, "path": first.path.partition("?")[0]}
        return {
            "targetGoal": settings["targetGoal"],
            "targetOpenapi": self.openapi.name,
            "targetSuccess": success,
        }

    def gateway(self) -> str:
        """The text of the gateway's config."""
        if self._demo:
            return demo_file(self._settings, GATEWAY)
        url = self.target.removeprefix(MCP)
        route: dict[str, Any] = {"name": self.name, "base_url": url, "timeout": 30}
        if self._settings.is_mcp:
            route["mcp"] = True
        return json.dumps({"routes": {"target": route}}, indent=2) + "\n"

    def texts(self) -> dict[str, str]:
        """File name -> text. Raises SettingsError where a setting would be invalid."""
        scenario = self.scenario()
        self._check(scenario)
        environment = Environment(
            loader=PackageLoader("ape_infra.cli", "templates/project"),
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            autoescape=select_autoescape(),
        )
        values = {
            "name": self.name,
            "demo": self._demo,
            "mcp": self._settings.is_mcp,
            "target": self.target,
            "openapi": self.openapi.name if self.openapi else "",
            "model": self.model.kind,
            "needs_key": bool(self._real.profile and self._real.profile.needs_key),
            "dev_model": self._yaml(self.model.settings()),
            "real_model": self._yaml(self._real.settings()),
            "scenario": self._yaml(scenario),
            "virtualenv": sys.prefix if sys.prefix != sys.base_prefix else "",
            "settings_page": SOURCE_ROOT / "docs/reference/settings.md",
            "environment": SOURCE_ROOT / ".ape/env",
        }
        found = {
            file: environment.get_template(template).render(values)
            for file, template in FILES.items()
        }
        found[GATEWAY] = self.gateway()
        return found

    @property
    def _real(self) -> ModelChoice:
        """The model of production, which is never the offline one."""
        return self.model if self.model.profile else ModelChoice("cerebras")

    def _yaml(self, settings: dict[str, Any]) -> str:
        keyed = {f"{self.name}:{key}": value for key, value in settings.items()}
        return yaml.safe_dump(keyed, sort_keys=False, width=100)

    def write(self, folder: Path) -> None:
        """Write the files into `folder`. Raises SettingsError before the first of them."""
        texts = self.texts()
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text)
        if self.openapi and self.openapi.resolve().parent != folder.resolve():
            shutil.copy(self.openapi, folder)

    def _check(self, scenario: dict[str, Any]) -> None:
        values = {"target": self.target, **self.model.settings(), **scenario}
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
        parse(texts, secrets=SECRETS)
