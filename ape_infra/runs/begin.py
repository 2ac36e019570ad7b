"""What is known of a run before it begins: its settings with the options, and its summary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ape_contracts import VERSION, labels
from ape_infra.config.provider import resolve
from ape_infra.config.settings import Settings, declared_settings
from ape_infra.runs.summary import Model, Summary, Versions

# The user and the password in a URL.
_USER_INFO = re.compile(r"//[^/@\s\"]+@")


@dataclass(frozen=True)
class Options:
    """Options of the command; empty: the settings count."""

    duration: str = ""
    agents: int = 0
    rate: str = ""
    thresholds: tuple[str, ...] = ()
    seed: str = ""


class OptionsError(Exception):
    """Options that contradict each other or the settings; the text has the remedy."""


def overrides(options: Options, settings: Settings, stack: str) -> dict[str, str]:
    """Return the settings that the options replace, as text. Raises OptionsError.

    A duration, agents or a rate replace the stages by constant load; thresholds come on top.
    """
    found: dict[str, str] = {}
    if options.agents and options.rate:
        raise OptionsError("--agents and --rate: only one is possible. Leave one of them out.")
    if options.agents > settings.fleet.agents:
        raise OptionsError(
            f"--agents: {options.agents} is above the {settings.fleet.agents} agents of stack "
            f"{stack}. Add agents with: ape-load scale --agents {options.agents} --stack {stack}"
        )
    duration = options.duration or settings.run.duration or _length(settings)
    if options.duration or options.agents or options.rate:
        found |= {"stages": "[]", "duration": duration}
    if options.agents:
        stage = {"duration": duration, "from": options.agents, "target": options.agents}
        found |= {"stages": json.dumps([stage]), "duration": ""}
        found |= {"executor": "closed", "arrivals": "constant", "rate": ""}
    if options.rate:
        found |= {"executor": "open", "rate": options.rate}
    if options.seed:
        found["seed"] = options.seed
    if options.thresholds:
        before = settings.run.model_dump(mode="json", by_alias=True)["thresholds"]
        found["thresholds"] = json.dumps([*before, *options.thresholds])
    return found


def _length(settings: Settings) -> str:
    return f"{settings.run.planned_seconds(settings.fleet.agents):g}s"


def flat_settings(settings: Settings) -> dict[str, Any]:
    """Every setting by its flat key. Secrets are not settings; what may hold one is left out."""
    groups = {
        setting.group: getattr(settings, setting.group).model_dump(mode="json", by_alias=True)
        for setting in declared_settings()
    }
    found = {each.key: groups[each.group][each.key] for each in declared_settings()}
    if found.get("modelHeaders"):
        found["modelHeaders"] = dict.fromkeys(found["modelHeaders"], "***")
    plain: dict[str, Any] = json.loads(_USER_INFO.sub("//***@", json.dumps(found)))
    return plain


def images(containers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return service -> image and id of the stack's containers; of agents, the first one's."""
    found: dict[str, str] = {}
    for container in containers:
        service = str(container["Labels"].get(labels.SERVICE, ""))
        name, digest = str(container.get("Image", "")), str(container.get("ImageID", ""))
        # Docker lists the id itself where the name has another image by now.
        shown = name if not digest or digest in name else f"{name}@{digest}"
        found.setdefault(service, shown)
    return dict(sorted(found.items()))


def first_summary(
    settings: Settings,
    *,
    run: str,
    project: str,
    stack: str,
    started: float,
    containers: Iterable[Mapping[str, Any]],
) -> Summary:
    """Return the summary of a run that has measured nothing yet."""
    used = resolve(settings.model)
    is_live = used.kind == "provider"
    return Summary(
        run=run,
        project=project,
        stack=stack,
        started=started,
        ended=started,
        planned_seconds=settings.run.planned_seconds(settings.fleet.agents),
        executor=settings.run.executor,
        settings=flat_settings(settings),
        versions=Versions(ape=VERSION, images=images(containers)),
        model=Model(
            kind=used.kind,
            provider=used.provider if is_live else "",
            name=used.name if is_live else "",
        ),
    )
