"""Which scenario, row of the users and seed a session of a run gets.

All follow from the run's seed (or its id) and from the session's place in the run: two runs with
one seed are the same, in whatever order agents ask.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from ape_contracts.load_shape import most_from
from ape_contracts.run_document import RunDocument, Scenario


@dataclass(frozen=True)
class Choice:
    scenario: Scenario
    user: dict[str, str] | None
    seed: str | None


class Lanes:
    """Numbers from 0 of the agents that may be active at once, each with the sessions it had.

    A lane has rows of its own. It is that of the slot with its number; another agent's takes one
    that nobody alive has.
    """

    def __init__(self, number: int, sessions: int) -> None:
        """`sessions`: that each lane had before."""
        self.number = max(1, number)
        self.sessions = [sessions] * self.number
        self._slots: dict[int, int] = {}
        self._lane_of: dict[int, int] = {}

    def of(self, slot: int, is_alive: Callable[[int], bool]) -> int:
        if slot not in self._lane_of:
            lane = slot - 1
            if lane >= self.number or lane in self._slots:
                lane = self._free(is_alive)
            if (before := self._slots.get(lane)) is not None:
                del self._lane_of[before]
            self._slots[lane], self._lane_of[slot] = slot, lane
        return self._lane_of[slot]

    def _free(self, is_alive: Callable[[int], bool]) -> int:
        lanes = range(self.number)
        never = (lane for lane in lanes if lane not in self._slots)
        lane = next(never, None)
        if lane is None:
            lane = next((n for n in lanes if not is_alive(self._slots[n])), 0)
        return lane


class Grants:
    def __init__(self, document: RunDocument) -> None:
        self._document = document
        # Without a seed a run that continues after a restart of the gateway still fits together.
        self._base = document.id if document.seed is None else document.seed
        self._weights = [scenario.weight for scenario in document.scenarios]
        most = 1 if document.is_open else math.ceil(most_from(document.stages, 0.0))
        self.lanes = Lanes(most, math.ceil(document.next_session / max(1, most)))

    def of_agent(self, slot: int, is_alive: Callable[[int], bool]) -> Choice | None:
        """The next session of an agent of a closed run; None: its rows are used up."""
        lane = self.lanes.of(slot, is_alive)
        number = self.lanes.sessions[lane]
        choice = self._choice(f"{lane + 1}/{number}", number, lane, self.lanes.number)
        if choice is not None:
            self.lanes.sessions[lane] += 1
        return choice

    def of_arrival(self, number: int) -> Choice | None:
        """The session of an arrival of an open run; None: the rows are used up."""
        return self._choice(str(number), number, 0, 1)

    def _choice(self, key: str, number: int, lane: int, lanes: int) -> Choice | None:
        """`number`: of the sessions of the lane, one of `lanes`."""
        user, users = None, self._document.users
        if users is not None:
            row = self._row(key, number, lane, lanes)
            if row is None:
                return None
            user = users.row(row)
        chance = random.Random(f"{self._base}/{key}/scenario")  # noqa: S311 - no secret
        scenario = chance.choices(self._document.scenarios, self._weights)[0]
        seed = self._document.seed
        return Choice(scenario, user, None if seed is None else f"{seed}/{key}")

    def _row(self, key: str, number: int, lane: int, lanes: int) -> int | None:
        users = self._document.users
        assert users is not None
        rows, again = len(users.rows), users.when_used_up == "reuse"
        if users.mode == "random":
            return random.Random(f"{self._base}/{key}/row").randrange(rows)  # noqa: S311
        if users.mode == "shared":
            # Each agent has all rows in turn, from its own on.
            return (lane + number) % rows if again or number < rows else None
        own = len(range(lane, rows, lanes))
        if own == 0:
            return lane % rows if again else None
        return lane + number % own * lanes if again or number < own else None
