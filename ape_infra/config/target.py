"""Settings of the target: the application under test, and what a session must achieve."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ape_contracts import conditions
from ape_contracts.gateway_config import CONTENT_TYPE, MAX_UPLOAD_BYTES
from ape_contracts.service_settings import USER_AGENT, Redirects
from ape_infra.config.errors import Problem
from ape_infra.config.group import Group, Strict
from ape_infra.config.sign_in import SignInStep

# Before the URL of an MCP server.
MCP = "mcp+"
DEMO_TARGET, DEMO_MCP = "demo", "mcp+demo"
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Endpoint(Strict):
    method: Method
    path: str = Field(pattern=r"^/")
    description: str = ""
    # Any JSON value; None: no body.
    body: Any = None


class BodyCondition(Strict):
    """A condition on a response body; see ape_contracts.conditions. `json_path`: former key."""

    value_path: str | None = Field(default=None, alias="value_path")
    json_path: str | None = Field(default=None, alias="json_path")
    equals: str | int | float | bool | None = None
    matches: str | None = None
    text: str | None = None


class Answer(BodyCondition):
    """The answer to `method` `path` has `status`, and its body meets every condition."""

    method: Method
    path: str = Field(pattern=r"^/")
    status: int = Field(ge=100, le=599)
    checks: list[BodyCondition] = Field(default=[])


class UploadFile(Strict):
    """The file that agents upload; see ape_contracts.gateway_config.Upload. None: not given."""

    file: str | None = Field(default=None, min_length=1)
    size: int | None = Field(default=None, alias="bytes", ge=0, le=MAX_UPLOAD_BYTES)
    content_type: str | None = Field(default=None, pattern=CONTENT_TYPE)

    def problems(self) -> list[Problem]:
        if self.file is not None and self.size is not None:
            why = "is set, and so is file, which has its own size. Remove one of the two."
            return [("targetUpload.bytes", why)]
        return []

    def plain(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True, by_alias=True)


class SuccessCondition(Answer):
    """A session succeeds when this answer and all of `also` have been received."""

    also: list[Answer] = Field(default=[])

    def problems(self) -> list[Problem]:
        found = conditions.problems(self.model_dump(by_alias=True))
        return [(f"targetSuccess.{at}".rstrip("."), why) for at, why in found]


class TargetSettings(Group):
    url: str = Field(
        DEMO_TARGET,
        alias="target",
        description="URL of your application; for an MCP server with `mcp+` before it, such as "
        "mcp+https://host/mcp; demo: the shop of this project; mcp+demo: its MCP server.",
    )
    goal: str = Field(
        "",
        alias="targetGoal",
        description="Goal of a session, in words for the model; empty: that of the demo target.",
    )
    endpoints: list[Endpoint] = Field(
        [],
        alias="targetEndpoints",
        description="Endpoints of the target in the order of a session, each with method, path, "
        "description and body; empty: those of targetOpenapi, gatewayConfig or the demo target.",
    )
    openapi: str = Field(
        "",
        alias="targetOpenapi",
        description="Path or URL of an OpenAPI document (JSON or YAML) that lists the operations; "
        "empty: none. `ape-load up` and `ape-load validate` fetch a URL.",
    )
    include: list[str] = Field(
        [],
        alias="targetInclude",
        description="Selectors of the operations of targetOpenapi: `tag:NAME`, `id:OPERATION_ID`, "
        "`/path/*` (`**`: any number of segments), `METHOD`, `METHOD /path/*` or `deprecated`. "
        "Empty: all, without deprecated ones and those with method DELETE, which count only if a "
        "selector names them.",
    )
    exclude: list[str] = Field(
        [],
        alias="targetExclude",
        description="Selectors, as in targetInclude, of operations of targetOpenapi to leave out.",
    )
    success: SuccessCondition | None = Field(
        None,
        alias="targetSuccess",
        description="Answer that makes a session successful: method, path and status, with "
        "conditions on its body: `value_path` (with equals or matches) or text. checks has further "
        "conditions, also further answers. Empty: the success condition of the demo target.",
    )
    redirects: Redirects = Field(
        "follow",
        alias="targetRedirects",
        description="What agents do with a redirect within the target: `follow` it as a browser "
        "does, `report` it to the model with its location, or `off`: the model is shown its status "
        "alone. None is followed to another host.",
    )
    upload: UploadFile | None = Field(
        None,
        alias="targetUpload",
        description="File that agents upload where an operation has one: `file`, a path with at "
        "most 1 MiB (on Swarm 366 KiB), or `bytes` of a generated one, and `contentType`. Empty: a "
        "PNG of 1024 bytes, or `upload` of gatewayConfig.",
    )
    sign_in: list[SignInStep] = Field(
        [],
        alias="targetSignIn",
        description="Sign-in of a session, as a list of steps with kind bearer, basic, apiKey, "
        "oauth2, json, form, header or logout, and their keys. Empty: the security schemes of "
        "targetOpenapi that targetCredentials suffice for; without these, the token in the answer "
        "to a login is used.",
    )
    gateway_config: str = Field(
        "",
        description="Path of a gateway config (JSON); empty: one route to the target.",
    )
    user_agent: str = Field(
        "",
        alias="targetUserAgent",
        pattern=f"^{USER_AGENT}$",
        description="User-Agent of requests to the target, unless the route or the agent sets one; "
        "empty: ape/ and the version.",
    )

    @property
    def is_demo(self) -> bool:
        return self.url in (DEMO_TARGET, DEMO_MCP)

    @property
    def is_mcp(self) -> bool:
        """Whether it is an MCP server, whose tools agents call."""
        return self.url.startswith(MCP)

    @property
    def http_url(self) -> str:
        """The URL that requests go to."""
        return self.url.removeprefix(MCP)

    @property
    def openapi_is_url(self) -> bool:
        return self.openapi.startswith(("http://", "https://"))
