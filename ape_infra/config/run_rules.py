"""Rules of the settings of a run, and of a run with its fleet."""

from __future__ import annotations

from collections.abc import Iterator

from ape_contracts import conditions
from ape_infra.config.durations import seconds, words
from ape_infra.config.errors import Problem
from ape_infra.config.fleet import FleetSettings
from ape_infra.config.openapi.selection import is_selector
from ape_infra.config.run import MAX_ARRIVALS, MAX_RATE, RunSettings, ScenarioRow
from ape_infra.config.settings import Settings
from ape_infra.config.thresholds import ThresholdError, parse

MAX_THINK_SECONDS = 600


def problems(settings: Settings) -> Iterator[Problem]:
    run, fleet = settings.run, settings.fleet
    yield from _shape(run)
    yield from _targets(run, fleet)
    yield from _phases(run, fleet)
    yield from _scenarios(run, fleet)
    yield from _users(run)
    yield from _thresholds(run)


def _shape(run: RunSettings) -> Iterator[Problem]:
    if run.stages and run.duration:
        yield (
            "duration",
            f"is {run.duration}, but stages have durations of their own. Remove one of the two.",
        )
    if run.rate and run.stages:
        yield "rate", f"is {run.rate}, but stages have targets. Remove one of the two."
    elif run.rate and run.executor == "closed":
        yield (
            "rate",
            f"is {run.rate}, but executor is closed, whose target is a number of agents. Set "
            "executor to open, or remove rate.",
        )
    elif run.executor == "open" and not run.stages and not float(run.rate or 0):
        yield (
            "rate",
            f"is {run.rate or 'empty'}, but executor is open, and stages is empty. Set the "
            "sessions that start per second, such as 2, or stages.",
        )
    if float(run.rate or 0) > MAX_RATE:
        yield "rate", f"is {run.rate}, above the maximum of {MAX_RATE}. Lower it."
    if run.arrivals == "poisson" and run.executor == "closed":
        yield (
            "arrivals",
            "is poisson, but executor is closed, whose sessions start when others end. Set "
            "executor to open, or arrivals to constant.",
        )


def _targets(run: RunSettings, fleet: FleetSettings) -> Iterator[Problem]:
    if run.stages and not any(stage.start or stage.end for stage in run.planned(fleet.agents)):
        yield "stages", "has no target above 0: no session would start. Raise a target."
    if run.executor == "open":
        planned = sum(s.seconds * (s.start + s.end) / 2 for s in run.planned(fleet.agents))
        if planned > MAX_ARRIVALS:
            yield (
                "stages" if run.stages else "rate",
                f"would start {planned:.0f} sessions, above the maximum of {MAX_ARRIVALS}. Lower "
                "it, or shorten the run.",
            )
        return
    for at, row in enumerate(run.stages):
        for key, value in (("target", row.target), ("from", row.start or 0.0)):
            if value != int(value):
                yield (
                    f"stages[{at}].{key}",
                    f"is {value:g}, but executor is closed, whose target is a number of agents. "
                    "Set a whole number.",
                )
            elif value > fleet.agents:
                yield (
                    f"stages[{at}].{key}",
                    f"is {value:g}, above agents, which is {fleet.agents}. Lower it, or set agents "
                    f"to {value:g}.",
                )


def _phases(run: RunSettings, fleet: FleetSettings) -> Iterator[Problem]:
    total = run.planned_seconds(fleet.agents)
    if seconds(run.warm_up) + seconds(run.ramp_down) >= total:
        yield (
            "warmUp",
            f"is {run.warm_up}, and rampDown is {run.ramp_down}: nothing of the {words(total)} of "
            "a run would count. Shorten one of them, or lengthen the run.",
        )


def _scenarios(run: RunSettings, fleet: FleetSettings) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for at, row in enumerate(run.scenarios):
        path = f"scenarios[{at}]"
        if row.name in seen:
            yield (
                f"{path}.name",
                f"is {row.name}, the same as that of scenarios[{seen[row.name]}]. Set another.",
            )
        seen.setdefault(row.name, at)
        yield from _scenario(path, row, fleet)
    if run.scenarios and not sum(row.weight for row in run.scenarios):
        yield (
            "scenarios",
            "have weights that add up to 0: no session would start. Set a weight above 0.",
        )


def _scenario(path: str, row: ScenarioRow, fleet: FleetSettings) -> Iterator[Problem]:
    for at, text in enumerate(row.operations or ()):
        if not is_selector(text):
            yield (
                f"{path}.operations[{at}]",
                f'is "{text}", which is not a selector. Write METHOD /path, /path/*, a method, '
                "tag:NAME or id:OPERATION_ID.",
            )
    if row.success:
        for at_key, why in conditions.problems(row.success.model_dump(by_alias=True)):
            yield f"{path}.success.{at_key}".rstrip("."), why
    pause = fleet.think_time_seconds if row.think_time is None else seconds(row.think_time)
    longest = fleet.session_max_seconds if row.max_seconds is None else row.max_seconds
    if pause > MAX_THINK_SECONDS:
        rule = f"is {row.think_time}, above the maximum of {words(MAX_THINK_SECONDS)}. Lower it."
        yield f"{path}.thinkTime", rule
    elif pause >= longest and (row.think_time is not None or row.max_seconds is not None):
        key = "maxSeconds" if row.max_seconds is not None else "thinkTime"
        yield (
            f"{path}.{key}",
            f"leaves a session of {longest} s no time beside one pause of {pause:g} s. Raise "
            "maxSeconds, or lower thinkTime.",
        )


def _users(run: RunSettings) -> Iterator[Problem]:
    if run.users_secret and not run.users:
        yield "usersSecret", "is set, but users is not. Set the path of a users file, or remove it."


def _thresholds(run: RunSettings) -> Iterator[Problem]:
    for at, text in enumerate(run.thresholds):
        try:
            parse(text)
        except ThresholdError as error:
            yield f"thresholds[{at}]", str(error)
