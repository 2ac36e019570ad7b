"""The controller of runs, by a clock that the tests set: who begins a session, when, with what."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from ape_contracts.run_document import of
from ape_gateway.runs import ABORT_SECONDS, ALIVE_SECONDS, RunActive, Runs

pytestmark = pytest.mark.unit


def stage(seconds: float, start: float, end: float | None = None) -> dict[str, float]:
    return {"seconds": seconds, "start": start, "end": start if end is None else end}


def document(*stages: dict[str, float], **changed: Any) -> Any:
    given = {
        "id": "r1",
        "executor": "closed",
        "stages": list(stages) or [stage(60, 2)],
        "scenarios": [{"name": "default"}],
        "lease_seconds": 10_000,
    }
    return of(given | changed)


class Rig:
    """Agents that hold sessions of a fixed length, around a controller."""

    def __init__(self, slots: Iterable[int] = range(1, 5), *, idle: bool = True) -> None:
        self.now = 1000.0
        self.runs = Runs(lambda: self.now, idle=idle)
        self.slots = list(slots)
        # Slot, seconds since the begin of the run, and the grant, of all sessions.
        self.begun: list[tuple[int, float, dict[str, Any]]] = []
        self.start = self.now
        for slot in self.slots:
            self.ask(slot)

    def ask(self, slot: int) -> dict[str, Any] | None:
        return self._taken(slot, self.runs.ask(slot))

    def begin(self, made: Any) -> None:
        self.runs.begin(made)
        self.start = self.now
        self.tick()

    def tick(self) -> None:
        for slot, answer in self.runs.tick().items():
            self._taken(slot, answer)

    def _taken(self, slot: int, answer: dict[str, Any] | None) -> dict[str, Any] | None:
        if answer and "start" in answer:
            self.begun.append((slot, self.now - self.start, answer["start"]))
        return answer

    def play(self, seconds: float, session: float = 1.0, step: float = 60.0) -> None:
        """Let time pass in the ticks that the controller asks for; each agent asks at the end of

        its session, and its poll is renewed.
        """
        end = self.now + seconds
        going = dict.fromkeys(self.runs._sessions, self.now + session)
        seen = len(self.begun)
        while self.now < end:
            wanted = self.runs.next_tick()
            due = [*going.values(), end, self.now + min(wanted or step, step)]
            self.now = min(due)
            for slot in [s for s, at in going.items() if at <= self.now]:
                del going[slot]
                if slot in self.slots:
                    self.ask(slot)
            # Polls last 20 s; that the others are there counts from their reports.
            self.runs.reported([(slot, "waiting") for slot in self.slots], ())
            self.tick()
            for slot, at, _ in self.begun[seen:]:
                going[slot] = self.start + at + session
            seen = len(self.begun)

    def times(self) -> list[float]:
        return [round(at, 6) for _, at, _ in self.begun]

    def sessions(self) -> list[int]:
        return [grant["session"] for _, _, grant in self.begun]

    @property
    def status(self) -> dict[str, Any]:
        return self.runs.status()


def test_agents_hold_sessions_as_ever_without_a_run() -> None:
    rig = Rig(idle=False)
    assert rig.ask(1) == {"free": True}
    status = rig.status
    assert (status["id"], status["state"], status["active"]) == (None, "none", 0)
    assert (status["idle"], status["agents"]) == (0, 4)
    rig.begin(document())
    assert status.keys() == rig.status.keys()
    # With sessions in runs only, they wait.
    rig = Rig()
    assert rig.ask(1) is None
    assert rig.runs.withdraw(1) == {"idle": True}
    assert rig.status["idle"] == 4


def test_closed_run_has_as_many_active_agents_as_its_target() -> None:
    rig = Rig(range(1, 11))
    rig.begin(document(stage(10, 3), stage(10, 6), stage(10, 1)))
    rig.play(9.9)
    assert {slot for slot, _, _ in rig.begun} == {1, 2, 3}
    rig.play(0.1)
    assert rig.status["active"] == 6
    rig.play(5)
    assert rig.status["target"] == rig.status["active"] == 6
    rig.play(5)
    before = len(rig.begun)
    rig.play(10)
    assert {slot for slot, _, _ in rig.begun[before:]} <= {1}
    assert rig.sessions() == list(range(len(rig.begun)))


def test_agents_of_a_ramp_begin_when_its_line_reaches_them() -> None:
    rig = Rig(range(1, 6))
    rig.begin(document(stage(10, 0, 5)))
    rig.play(9.9, session=100)
    assert rig.times() == pytest.approx([0, 2, 4, 6, 8], abs=0.002)
    assert [slot for slot, _, _ in rig.begun] == [1, 2, 3, 4, 5]


def test_agent_that_is_gone_leaves_its_place_to_the_next() -> None:
    rig = Rig(range(1, 5))
    rig.begin(document(stage(200, 2)))
    rig.slots = [2, 3, 4]
    rig.play(ALIVE_SECONDS + 2)
    assert {slot for slot, _, _ in rig.begun[-4:]} == {2, 3}
    assert rig.status["agents"] == 3
    # Its session ended with it.
    assert rig.status["active"] == 2
    assert rig.status["started"] - rig.status["ended"] == 2
    rig.slots.append(1)
    rig.ask(1)
    rig.play(2)
    assert {slot for slot, _, _ in rig.begun[-2:]} == {1, 2}


def test_arrivals_begin_at_their_times_whatever_sessions_take() -> None:
    rig = Rig(range(1, 11))
    rig.begin(document(stage(4, 2), executor="open"))
    rig.play(5, session=3.3)
    assert rig.times() == pytest.approx([n / 2 for n in range(8)], abs=0.002)
    assert rig.status["dropped"] == 0
    assert rig.status["late_seconds_max"] < 0.002
    assert len({slot for slot, _, _ in rig.begun}) == 8


def test_arrival_without_an_agent_is_late_or_dropped_as_the_arithmetic_says() -> None:
    # One agent, sessions of 0.75 s, an arrival each 0.5 s, at most 0.6 s late.
    rig = Rig([1])
    rig.begin(document(stage(6, 2), executor="open", max_late_seconds=0.6))
    rig.play(10, session=0.75)
    expected, dropped, free = list[tuple[float, float]](), 0, 0.0
    for due in (n / 2 for n in range(12)):
        at = max(due, free)
        if at - due > 0.6:
            dropped += 1
        else:
            expected.append((at, at - due))
            free = at + 0.75
    found = [(at, grant["late_seconds"]) for _, at, grant in rig.begun]
    assert [value for pair in found for value in pair] == pytest.approx(
        [value for pair in expected for value in pair], abs=0.01
    )
    assert dropped > 2
    assert rig.status["dropped"] == dropped
    assert rig.status["started"] + dropped == 12
    assert rig.status["late_seconds_max"] == pytest.approx(
        max(late for _, late in expected), abs=0.01
    )
    assert (rig.status["state"], rig.status["why_ended"]) == ("ended", "planned")


def test_gateway_that_stood_still_drops_what_is_too_late() -> None:
    rig = Rig(range(1, 101))
    rig.begin(document(stage(100, 10), executor="open", max_late_seconds=1))
    rig.now += 5.05
    rig.tick()
    # 51 arrivals were due, of which those of the last second may begin.
    assert rig.status["started"] == 11
    assert rig.status["dropped"] == 40
    assert rig.status["late_seconds_max"] == pytest.approx(1.0, abs=0.06)


def test_same_seed_gives_the_same_poisson_arrivals() -> None:
    made = []
    for seed in ("a", "a", "b"):
        rig = Rig(range(1, 101))
        rig.begin(document(stage(10, 5), executor="open", arrivals="poisson", seed=seed))
        rig.play(11)
        made.append(rig.times())
    assert made[0] == made[1] != made[2]
    assert 25 < len(made[0]) < 80


def test_run_waits_until_sessions_outside_of_it_have_ended() -> None:
    rig = Rig([1, 2], idle=False)
    assert rig.ask(1) == rig.ask(2) == {"free": True}
    rig.begin(document(stage(10, 2), drain_seconds=20))
    rig.now += 3
    assert rig.ask(1) is None
    assert rig.status["state"] == "draining"
    assert rig.status["elapsed_seconds"] == 0
    rig.now += 2
    rig.ask(2)
    rig.tick()
    assert rig.status["state"] == "running"
    assert rig.status["elapsed_seconds"] == 0
    assert rig.times() == [5, 5]


def test_run_does_not_wait_longer_than_it_may() -> None:
    rig = Rig([1, 2], idle=False)
    rig.ask(2)
    rig.begin(document(stage(10, 2), drain_seconds=20))
    rig.ask(1)
    rig.play(19.9)
    assert rig.begun == []
    rig.play(1)
    assert rig.times()[0] == 20
    assert rig.status["elapsed_seconds"] == pytest.approx(0.9)


def test_stages_begin_at_the_end_of_the_wait_however_late_that_is_seen() -> None:
    rig = Rig([1, 2], idle=False)
    rig.ask(2)
    rig.begin(document(stage(10, 2), drain_seconds=20))
    rig.now += 25
    assert rig.status["elapsed_seconds"] == 5


def test_second_run_is_refused_until_the_first_has_ended() -> None:
    rig = Rig()
    rig.begin(document(stage(2, 1)))
    with pytest.raises(RunActive):
        rig.runs.begin(document(id="r2"))
    rig.play(10)
    assert rig.status["state"] == "ended"
    rig.begin(document(id="r2"))
    assert rig.status["id"] == "r2"


def test_stopped_run_lets_sessions_end_and_starts_none() -> None:
    rig = Rig()
    rig.begin(document(stage(60, 2), graceful_stop_seconds=5))
    rig.play(10.5, session=2)
    before = len(rig.begun)
    rig.runs.stop()
    assert rig.status["state"] == "stopping"
    assert rig.runs.abort_run is None
    rig.play(3, session=2)
    assert len(rig.begun) == before
    assert (rig.status["state"], rig.status["why_ended"]) == ("ended", "stopped")
    assert rig.status["started"] == rig.status["ended"] == before


def test_sessions_past_the_graceful_stop_are_to_be_aborted() -> None:
    rig = Rig()
    rig.begin(document(stage(10, 2), graceful_stop_seconds=5))
    rig.play(14.9, session=1000)
    assert rig.status["state"] == "stopping"
    assert rig.runs.abort_run is None
    rig.play(0.2, session=1000)
    assert rig.runs.abort_run == "r1"
    rig.runs.reported([(1, "running")], [(1, "r1", 0), (2, "other", 1), (2, "r1", 7)])
    assert rig.status["active"] == 1
    # One that never answers does not delay the end.
    rig.play(ABORT_SECONDS + 1, session=1000)
    assert (rig.status["state"], rig.status["active"]) == ("ended", 0)
    assert rig.runs.abort_run is None


def test_agents_hold_sessions_as_before_when_a_run_has_ended() -> None:
    rig = Rig(idle=False)
    rig.begin(document(stage(2, 1), drain_seconds=0))
    for slot in rig.slots:
        rig.ask(slot)
    rig.play(1.5, session=1)
    assert rig.runs.withdraw(3) == {"wait": True}
    assert rig.ask(3) is None
    rig.now += 2
    answers = rig.runs.tick()
    assert {slot: answers.get(slot) for slot in (2, 3, 4)} == dict.fromkeys((2, 3, 4))
    assert rig.ask(1) == {"free": True}
    assert rig.runs.tick() == {slot: {"free": True} for slot in (2, 3, 4)}


def test_run_ends_without_the_one_who_leads_it() -> None:
    rig = Rig()
    rig.begin(document(stage(600, 1), lease_seconds=30))
    rig.play(29)
    rig.runs.renew("r1")
    rig.play(29)
    rig.runs.renew("another")
    rig.play(2)
    assert rig.status["why_ended"] == "lease"
    assert rig.runs.document is not None


def test_run_continues_after_a_restart_of_the_gateway() -> None:
    first = Rig(range(1, 31))
    made = {"executor": "open", "arrivals": "poisson", "seed": "s"}
    first.begin(document(stage(20, 4), **made))
    first.play(21)
    again = Rig(range(1, 31))
    position = next(n for n, at in enumerate(first.times()) if at > 8)
    again.begin(document(stage(20, 4), **made, elapsed_seconds=10, next_session=position))
    again.play(12)
    # No session twice; those of the time without a gateway are too late.
    missed = sum(8 < at < 9 for at in first.times())
    assert again.status["dropped"] == missed > 0
    assert again.sessions() == list(range(position + missed, len(first.begun)))
    late = [grant["late_seconds"] for _, _, grant in again.begun]
    assert max(late) <= 1
    expected = [max(0, at - 10) for at in first.times()[position + missed :]]
    assert again.times() == pytest.approx(expected, abs=0.002)


def test_sessions_have_the_phase_of_their_planned_start() -> None:
    rig = Rig(range(1, 20))
    rig.begin(document(stage(10, 1), executor="open", warm_up_seconds=3, ramp_down_seconds=2))
    rig.play(11)
    phases = [grant["phase"] for _, _, grant in rig.begun]
    assert phases == ["warm_up"] * 3 + ["main"] * 5 + ["ramp_down"] * 2


def test_scenarios_are_chosen_by_their_weights() -> None:
    rig = Rig(range(1, 11))
    scenarios = [{"name": "buy", "weight": 3}, {"name": "look", "weight": 1, "goal": "Look."}]
    rig.begin(document(stage(200, 10), executor="open", scenarios=scenarios))
    rig.play(200, session=0.3)
    names = Counter(grant["scenario"]["name"] for _, _, grant in rig.begun)
    assert names["buy"] / len(rig.begun) == pytest.approx(0.75, abs=0.04)
    assert {g["scenario"]["goal"] for _, _, g in rig.begun} == {None, "Look."}


def test_same_seed_gives_each_agent_the_same_sessions() -> None:
    def of_agents(seed: str, session: float) -> dict[int, list[Any]]:
        rig = Rig(range(1, 5))
        scenarios = [{"name": "a"}, {"name": "b"}]
        users = _users(40, "random")
        rig.begin(document(stage(30, 4), seed=seed, scenarios=scenarios, users=users))
        rig.play(10 * session, session=session)
        found: dict[int, list[Any]] = {slot: [] for slot in rig.slots}
        for slot, _, grant in rig.begun:
            found[slot].append((grant["scenario"]["name"], grant["user"], grant["seed"]))
        return {slot: grants[:8] for slot, grants in found.items()}

    # In whatever order and pace they ask.
    assert of_agents("1", 1.0) == of_agents("1", 2.1)
    assert of_agents("1", 1.0) != of_agents("2", 1.0)
    seeds = [grant[2] for grants in of_agents("1", 1.0).values() for grant in grants]
    assert len(set(seeds)) == len(seeds)


def _users(rows: int, mode: str, used_up: str = "stop") -> dict[str, Any]:
    return {
        "columns": ["name", "pin"],
        "rows": [[f"u{n}", f"pin-{n}"] for n in range(rows)],
        "secret": ["pin"],
        "mode": mode,
        "when_used_up": used_up,
    }


def test_unique_users_are_used_once_and_then_the_run_ends() -> None:
    rig = Rig(range(1, 4))
    rig.begin(document(stage(600, 3), users=_users(10, "unique")))
    rig.play(60)
    used = [grant["user"]["name"] for _, _, grant in rig.begun]
    assert sorted(used) == sorted(f"u{n}" for n in range(10))
    assert (rig.status["state"], rig.status["why_ended"]) == ("ended", "users")
    # Each agent has rows of its own, of which the secret ones are named.
    of_first = [grant["user"]["name"] for slot, _, grant in rig.begun if slot == 1]
    assert of_first == ["u0", "u3", "u6", "u9"]
    assert rig.begun[0][2]["secret"] == ["pin"]
    assert rig.begun[0][2]["user"] == {"name": "u0", "pin": "pin-0"}


def test_unique_users_of_arrivals_are_used_once() -> None:
    rig = Rig(range(1, 4))
    rig.begin(document(stage(600, 2), executor="open", users=_users(10, "unique")))
    rig.play(20, session=0.1)
    assert [grant["user"]["name"] for _, _, grant in rig.begun] == [f"u{n}" for n in range(10)]
    assert (rig.status["why_ended"], rig.status["dropped"]) == ("users", 0)


def test_arrivals_without_a_row_are_not_dropped() -> None:
    rig = Rig([1])
    users = _users(1, "unique")
    rig.begin(document(stage(60, 10), executor="open", users=users, max_late_seconds=5))
    rig.play(2)
    assert (rig.status["started"], rig.status["why_ended"], rig.status["dropped"]) == (
        1,
        "users",
        0,
    )


def test_users_that_are_used_again_stay_with_their_agent() -> None:
    rig = Rig(range(1, 4))
    rig.begin(document(stage(30, 3), users=_users(7, "unique", "reuse")))
    rig.play(30)
    of = {s: {g["user"]["name"] for slot, _, g in rig.begun if slot == s} for s in (1, 2, 3)}
    assert of == {1: {"u0", "u3", "u6"}, 2: {"u1", "u4"}, 3: {"u2", "u5"}}
    assert rig.status["why_ended"] == "planned"


def test_agent_that_replaces_another_has_the_rows_that_are_left() -> None:
    rig = Rig(range(1, 5))
    rig.begin(document(stage(600, 2), users=_users(200, "unique")))
    rig.slots = [1, 3, 4]
    rig.play(ALIVE_SECONDS + 10)
    used = [grant["user"]["name"] for _, _, grant in rig.begun]
    assert len(set(used)) == len(used)
    assert {slot for slot, _, _ in rig.begun} == {1, 2, 3}
    # Those of the agent that is gone, from where it was.
    assert {int(g["user"]["name"][1:]) % 2 for slot, _, g in rig.begun if slot == 3} == {1}


def test_shared_users_are_those_of_every_agent_in_turn() -> None:
    rig = Rig(range(1, 3))
    rig.begin(document(stage(10, 2), users=_users(3, "shared", "reuse")))
    rig.play(3.5)
    first = [grant["user"]["name"] for slot, _, grant in rig.begun if slot == 1]
    second = [grant["user"]["name"] for slot, _, grant in rig.begun if slot == 2]
    assert first[:4] == ["u0", "u1", "u2", "u0"]
    assert second[:4] == ["u1", "u2", "u0", "u1"]


@pytest.mark.parametrize("executor", ["closed", "open"])
def test_two_thousand_agents_are_cheap(executor: str) -> None:
    rig = Rig(range(1, 2001))
    rig.begin(document(stage(10, 0, 2000 if executor == "closed" else 100), executor=executor))
    # Waiting agents are looked at once a tick, and not at every question.
    began = time.process_time()
    for n in range(1000):
        rig.now += 0.001
        rig.ask(n + 1)
        rig.runs.take()
        rig.runs.next_tick((n + 1,))
    spent = (time.process_time() - began) / 1000
    assert spent < 0.0003
