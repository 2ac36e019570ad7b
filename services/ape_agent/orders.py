"""What the gateway has an agent do next: a session of a run, a session as without runs, or wait."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, NamedTuple

from ape_agent.peers import Peer, PeerError
from ape_agent.results import SessionResult
from ape_contracts.service_settings import AgentSettings

RUN_HEADER = "X-APE-Run"
FREE, WAIT = "free", "wait"
# Of a gateway without runs.
_WITHOUT: Final = (404, 405)
_OWN_SETTINGS = (
    *("goal", "persona", "success"),
    *("think_time_seconds", "session_max_steps", "session_max_seconds"),
)
# What the gateway takes of a transcript, less what is around the messages.
MAX_TRANSCRIPT_BYTES, _MAX_MESSAGE_BYTES = 60 << 10, 20_000


class Grant(NamedTuple):
    """A session of a run. `number`: in the run; `pause`: whether the agent pauses after it."""

    run: str
    number: int
    scenario: Mapping[str, Any]
    phase: str
    user: Mapping[str, str]
    secret: tuple[str, ...] = ()
    seed: str | None = None
    late: float = 0.0
    full: tuple[str, ...] = ()
    pause: bool = True

    @property
    def headers(self) -> dict[str, str]:
        """Of all requests of the session."""
        return {RUN_HEADER: f"{self.run}/{self.scenario['name']}/{self.phase}"}

    def report(self) -> dict[str, Any]:
        """What the report of the session has of the run."""
        return {
            "run": self.run,
            "session": self.number,
            "scenario": self.scenario["name"],
            "phase": self.phase,
            "late": self.late,
        }

    def settings(self, own: AgentSettings) -> AgentSettings:
        """The agent's own, with those of the scenario."""
        given = {name: self.scenario.get(name) for name in _OWN_SETTINGS}
        return replace(own, **{name: v for name, v in given.items() if v is not None})


def _grant(raw: Any) -> Grant:
    """Raises PeerError."""
    try:
        return Grant(
            str(raw["run"]),
            int(raw["session"]),
            {"name": str(raw["scenario"]["name"]), **raw["scenario"]},
            str(raw["phase"]),
            dict(raw.get("user") or {}),
            tuple(raw.get("secret") or ()),
            raw.get("seed"),
            float(raw.get("late_seconds") or 0.0),
            tuple(raw.get("full") or ()),
            raw.get("pause") is not False,
        )
    except (KeyError, TypeError, ValueError):
        raise PeerError("its order has not the form of one", reached=True) from None


class Orders:
    """`headers`: with what the agents sign their reports."""

    def __init__(self, gateway: Peer, headers: Mapping[str, str] | None, trace_id: str) -> None:
        self._gateway, self._headers, self._trace_id = gateway, headers, trace_id

    async def next(self, slot: int) -> Grant | str:
        """A grant, FREE or WAIT. Raises PeerError."""
        asked = {"slot": slot}
        try:
            reply = await self._post("/agents/next", asked)
        except PeerError as problem:
            if problem.status in _WITHOUT:
                return FREE
            raise
        if reply.status in _WITHOUT:
            return FREE
        if reply.status != 200:
            raise PeerError(f"status {reply.status}", reached=True)
        if (start := reply.body.get("start")) is not None:
            return _grant(start)
        return WAIT if reply.body.get("wait") or reply.body.get("idle") else FREE

    async def transcript(
        self, grant: Grant, result: SessionResult, messages: list[dict[str, Any]]
    ) -> None:
        """Send what was said in a session that failed, if the gateway still keeps it."""
        own = grant.report()
        body = {key: own[key] for key in ("run", "session", "scenario")}
        body |= {"slot": result.slot, "reason": result.reason, "detail": result.detail}
        with suppress(PeerError):
            await self._post("/agents/transcript", body | {"messages": bounded(messages)})

    async def _post(self, path: str, body: Any) -> Any:
        return await self._gateway.post(
            path, body, self._trace_id, headers=self._headers, retry=False
        )


def bounded(
    messages: list[dict[str, Any]], most: int = MAX_TRANSCRIPT_BYTES
) -> list[dict[str, Any]]:
    """The first two messages, and as many of the last ones as fit, each with its beginning."""
    cut = [_cut(message) for message in messages]
    first, later = cut[:2], cut[2:]
    left = most - sum(map(_size, first)) - 100
    kept: list[dict[str, Any]] = []
    while later and (left := left - _size(later[-1])) >= 0:
        kept.insert(0, later.pop())
    note = {"role": "note", "content": f"{len(later)} messages were left out."}
    return [*first, *([note] if later else []), *kept]


def _size(message: dict[str, Any]) -> int:
    # As it is sent: not ASCII takes up to six bytes a character.
    return len(json.dumps(message)) + 1


def _cut(message: dict[str, Any]) -> dict[str, Any]:
    content, most = message.get("content"), _MAX_MESSAGE_BYTES
    while isinstance(content, str) and len(content) > 100 and _size(message) > most:
        content = content[: len(content) * 2 // 3]
        message = {**message, "content": content + "…"}
    if _size(message) <= most:
        return message
    # Its calls are long.
    text = json.dumps(message)[: most // 2]
    return {"role": str(message.get("role"))[:20], "content": text + "…"}
