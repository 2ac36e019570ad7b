"""The interface of a model behind the proxy, with answers in OpenAI's format."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ape_proxy import offline
from ape_proxy.completion import as_events
from ape_proxy.costs import limited

EVENTS, JSON = "text/event-stream", "application/json"


@dataclass(frozen=True)
class Answer:
    """An answer after its head; `chunks` may raise ProxyError.

    `headers` are case-insensitive, or have lower-case names.
    """

    status: int
    content_type: str
    headers: Mapping[str, str]
    chunks: AsyncIterable[bytes]


class Model(Protocol):
    name: str
    # Texts that must not be passed on, such as the key.
    secrets: tuple[str, ...]

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def models(self) -> list[dict[str, Any]] | Answer:
        """GET /models: a list, or a provider's own answer."""
        ...

    def shape(self, body: dict[str, Any]) -> dict[str, Any]:
        """The request as the model gets it."""
        ...

    def ask(self, body: dict[str, Any], timeout: float) -> AbstractAsyncContextManager[Answer]:
        """The answer to a request of `shape`. Raises ProxyError.

        `timeout`: seconds for a complete answer, or until a stream begins.
        """
        ...


class Local:
    """A model in this process; subclasses define `complete`."""

    secrets: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        self.name = name

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def models(self) -> list[dict[str, Any]] | Answer:
        return [{"id": self.name, "object": "model", "created": 0, "owned_by": "ape"}]

    def shape(self, body: dict[str, Any]) -> dict[str, Any]:
        return limited(body, {})

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    @asynccontextmanager
    async def ask(self, body: dict[str, Any], timeout: float) -> AsyncIterator[Answer]:
        completion = self.complete(body)
        if body.get("stream"):
            yield Answer(200, EVENTS, {}, _each(*as_events(completion)))
        else:
            yield Answer(200, JSON, {}, _each(json.dumps(completion).encode()))


async def _each(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


class Offline(Local):
    """See `offline`."""

    def __init__(self) -> None:
        super().__init__(offline.NAME)

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        tools = body.get("tools")
        decision = offline.next_decision(body["messages"], tools if isinstance(tools, list) else [])
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if isinstance(decision, str):
            message["content"], finish = decision, "stop"
        else:
            function = {"name": decision.name, "arguments": decision.arguments}
            call = {"id": f"call_{secrets.token_hex(8)}", "type": "function", "function": function}
            message["tool_calls"], finish = [call], "tool_calls"
        asked = sum(
            offline.count_tokens(offline.text_of(m.get("content")))
            for m in body["messages"]
            if isinstance(m, dict)
        )
        answered = offline.count_tokens(
            decision if isinstance(decision, str) else decision.arguments
        )
        return {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.name,
            # Without it the Cerebras client takes the answer for another type.
            "system_fingerprint": f"fp_{self.name}",
            "choices": [
                {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
            ],
            "usage": {
                "prompt_tokens": asked,
                "completion_tokens": answered,
                "total_tokens": asked + answered,
            },
        }
