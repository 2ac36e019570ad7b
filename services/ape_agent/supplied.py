"""What the declared sign-in adds to requests, as far as it is known before a session begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ape_agent.calls import target_of
from ape_agent.results import SessionFailed
from ape_agent.sign_in import SignIn
from ape_contracts.sign_in import SignInError, steps


def carried(declared: list[dict[str, Any]]) -> set[str]:
    """The names, in lower case, of what requests carry by the steps; the model need not give it."""
    found = steps(declared)
    names = {step.name for step in found if step.kind in ("apiKey", "header")}
    headers = {step.header for step in found if step.kind not in ("apiKey", "header", "logout")}
    return {name.lower() for name in names | headers if name}


async def authorization(declared: list[dict[str, Any]], credentials: Mapping[str, str]) -> str:
    """What requests carry as Authorization without any request before; empty: nothing."""

    async def send(_: dict[str, Any]) -> tuple[int, Any, Any]:
        raise SignInError("No request is sent here.")

    known = [step for step in declared if step.get("kind") in ("bearer", "basic", "apiKey")]
    sign_in = SignIn(known, credentials, {}, target_of("", []))
    try:
        await sign_in.begin(send)
    except SessionFailed:
        return ""
    return sign_in.added("/")[0].get("Authorization", "")
