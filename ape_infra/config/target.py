"""Settings of the target: the application under test, and what a session must achieve."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ape_contracts import conditions
from ape_infra.config.errors import Problem
from ape_infra.config.group import Group, Strict

DEMO_TARGET = "demo"
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Endpoint(Strict):
    method: Method
    path: str = Field(pattern=r"^/")
    description: str = ""
    body: dict[str, Any] | None = None


class BodyCondition(Strict):
    """One condition on a body; see ape_contracts.conditions. `json_path`: former `value_path`."""

    value_path: str | None = Field(default=None, alias="value_path")
    json_path: str | None = Field(default=None, alias="json_path")
    equals: str | int | float | bool | None = None
    matches: str | None = None
    text: str | None = None


class Answer(BodyCondition):
    """An answer that must come, to `method` `path`; `checks`: further conditions on its body."""

    method: Method
    path: str = Field(pattern=r"^/")
    status: int = Field(ge=100, le=599)
    checks: list[BodyCondition] = Field(default=[])


class SuccessCondition(Answer):
    """A session succeeds when this answer has come, and all of `also`."""

    also: list[Answer] = Field(default=[])

    def problems(self) -> list[Problem]:
        found = conditions.problems(self.model_dump(by_alias=True))
        return [(f"targetSuccess.{at}".rstrip("."), why) for at, why in found]


class TargetSettings(Group):
    url: str = Field(
        DEMO_TARGET,
        alias="target",
        description="demo: the shop of this project. Or the URL of your application.",
    )
    goal: str = Field(
        "",
        alias="targetGoal",
        description="What an agent is to achieve; empty: the demo's goal (demo only).",
    )
    endpoints: list[Endpoint] = Field(
        [],
        alias="targetEndpoints",
        description="Endpoints of the target, in the order of a session: method, path, "
        "description, body; empty: those of targetOpenapi, of the demo, or of gatewayConfig.",
    )
    openapi: str = Field(
        "",
        alias="targetOpenapi",
        description="Path of an OpenAPI file (JSON or YAML) whose operations are the endpoints.",
    )
    success: SuccessCondition | None = Field(
        None,
        alias="targetSuccess",
        description="The answer that makes a session a success: method, path, status, and what "
        "its body holds: value_path (with equals or matches) or text; more in checks, further "
        "answers in also; empty: the demo's (demo only).",
    )
    gateway_config: str = Field(
        "", description="Path of the gateway's JSON config; empty: one route to the target."
    )

    @property
    def is_demo(self) -> bool:
        return self.url == DEMO_TARGET
