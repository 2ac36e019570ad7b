"""An OpenAI-compatible upstream that answers as real ones do, and counts what it was sent.

    python -m tests.support.model_upstream PORT --seed 1     a mix of all behaviors, for soak tests

A completion is known by its conversation: requests with the same messages are attempts of one.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support import model_answers as answers
from tests.support import model_behaviors as known
from tests.support.model_answers import Answer
from tests.support.model_behaviors import Behavior
from tests.support.model_step import broken_rules
from tests.support.model_streams import streamed

PATH = "/v1/chat/completions"
_JSON = {"Content-Type": "application/json"}


@dataclass
class Seen:
    """A request; `count`: of this completion. `answered` is 0 before its answer."""

    at: float
    headers: dict[str, str]
    body: dict[str, Any]
    count: int
    status: int = 0
    answered: float = 0.0


@dataclass
class Upstream:
    """`echo`: the fields of reasoning that it takes back; `keep`: whether requests are kept."""

    behavior: Behavior
    echo: tuple[str, ...] = ()
    delay: float = 0.0
    keep: bool = True
    # Streams are answered with events; else as servers do that have none: with one object.
    streams: bool = False
    seen: list[Seen] = field(default_factory=list)
    # What a strict server refuses, and how often it was sent.
    broken: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def requests(self) -> int:
        return self.attempts.total()

    @property
    def most_attempts(self) -> int:
        """Of any completion."""
        return max(self.attempts.values(), default=0)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=32 << 20)
        app.router.add_post(PATH, self._complete)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/_counts", self._counts)
        return app

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})

    async def _counts(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "requests": self.requests,
                "completions": len(self.attempts),
                "most_attempts": self.most_attempts,
                "broken": dict(self.broken),
            }
        )

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        key = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
        self.attempts[key] += 1
        seen = Seen(time.monotonic(), dict(request.headers), body, self.attempts[key])
        if self.keep:
            self.seen.append(seen)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            answer = self._answer(body, seen.count)
            await asyncio.sleep(self.delay + answer.delay)
            seen.status, seen.answered = answer.status, time.monotonic()
            if self.streams and body.get("stream"):
                answer = streamed(answer)
            return await _sent(request, answer)
        finally:
            self.in_flight -= 1

    def _answer(self, body: dict[str, Any], count: int) -> Answer:
        problems = list(broken_rules(body, self.echo))
        if problems:
            self.broken.update(problems)
            return Answer(answers.openai_error(problems[0]), 400)
        return self.behavior(body, count)


async def _sent(request: web.Request, answer: Answer) -> web.StreamResponse:
    content = answer.content
    headers = _JSON | dict(answer.headers)
    if answer.end == "whole":
        return web.Response(body=content, status=answer.status, headers=headers)
    assert request.transport is not None
    if answer.end == "reset":
        request.transport.abort()
        return web.Response()
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = len(content)
    await response.prepare(request)
    half = len(content) // 2
    await response.write(content[:half])
    if answer.end == "cut":
        request.transport.close()
        return response
    await asyncio.sleep(answer.delay)
    await response.write(content[half:])
    return response


class Mix:
    """All behaviors at random: one of a session's own, with some of the others in between.

    The few that stop all callers for a time come seldom, and for a short time.
    """

    def __init__(self, seed: int, target: str, seconds: float) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable choices
        self._seed = seed
        made = known.behaviors(target)
        self._calm = {
            name: made[name] for name in sorted(made) if not name.startswith(("window_", "quota_"))
        } | {"slow": known.slow(0.3), "trickle": known.slow(0.1, "trickle")}
        self._all = [*self._calm]
        self._quota_seconds = seconds
        stops = [*answers.WINDOWS, "quota"]
        self._random.shuffle(stops)
        self._stops = itertools.cycle(stops)
        self._next_stop = time.monotonic() + self._random.uniform(5, 15)

    def __call__(self, body: dict[str, Any], count: int) -> Answer:
        if time.monotonic() > self._next_stop:
            self._next_stop = time.monotonic() + self._random.uniform(5, 15)
            return self._stopped()
        chance = self._random.random()
        if chance < 0.3:
            return known.well_behaved(body, count)
        if chance < 0.4:
            return self._calm[self._random.choice(self._all)](body, count)
        opening = json.dumps(body["messages"][0]).encode() + bytes([self._seed % 256])
        own = int.from_bytes(hashlib.sha256(opening).digest()[:4], "big") % len(self._all)
        return self._calm[self._all[own]](body, count)

    def _stopped(self) -> Answer:
        """A rejection of everybody: for a second, or for longer than a completion may wait."""
        name = next(self._stops)
        if name == "quota":
            left = f"{self._quota_seconds:.1f}"
            headers = {
                "x-ratelimit-remaining-requests-day": "0",
                "x-ratelimit-reset-requests-day": left,
            }
            return Answer(answers.TOO_MANY, 429, headers)
        return Answer(answers.TOO_MANY, 429, answers.WINDOWS[name](0.7))


def main() -> None:
    parser = argparse.ArgumentParser(description="A model and provider that misbehave at random.")
    parser.add_argument("port", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", default="http://target:8080", help="address of the target")
    parser.add_argument("--quota-seconds", type=float, default=12, help="time of a long limit")
    parser.add_argument("--streams", action="store_true", help="answer with events")
    given = parser.parse_args()
    mix = Mix(given.seed, given.target, given.quota_seconds)
    echo = ("extra_content", "reasoning_details")
    upstream = Upstream(mix, echo=echo, keep=False, streams=given.streams)
    web.run_app(
        upstream.app(), host="127.0.0.1", port=given.port, print=lambda *_: None, access_log=None
    )


if __name__ == "__main__":
    main()
