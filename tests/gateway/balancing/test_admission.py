"""Requests begin, wait or are refused: within bounds, fairly between keys, and urgent ones first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.admission import Admission
from gateway.balancing.fair_queue import Claim, Ticket
from gateway.errors import Overloaded
from registry.states import Priority

FAR = 1e9


class Scene:
    """A pool, and the order in which its requests had their turns."""

    def __init__(self, room: int, queue_limit: int = 1000) -> None:
        self.admission = Admission(queue_limit)
        self.room = room
        self.turns: list[str] = []
        self.expired: list[str] = []
        self.running: list[Ticket] = []
        self.tickets: dict[str, Ticket] = {}
        self.count = 0

    def enter(self, key: str, priority: Priority = Priority.NORMAL, deadline: float = FAR, now: float = 0.0) -> Ticket:
        name = f"{key}/{self.count}"
        self.count += 1
        ticket = self.admission.enter(
            "pool",
            self.room,
            Claim(key=key, priority=priority, deadline=deadline),
            lambda: self.turns.append(name),
            lambda: self.expired.append(name),
            now,
        )
        self.tickets[name] = ticket
        if ticket.is_running:
            self.turns.append(name)
        return ticket

    def finish_next(self, now: float = 0.0) -> None:
        """The one that runs longest is done, if one runs."""
        running = (self.tickets[name] for name in self.turns if self.tickets[name].is_running)
        if (ticket := next(running, None)) is not None:
            self.admission.leave(ticket, now)

    def drain(self, turns: int) -> list[str]:
        """The keys of the next so many turns, each given by one that is done."""
        seen = len(self.turns)
        for _ in range(turns):
            self.finish_next()
        return [name.partition("/")[0] for name in self.turns[seen:]]


def test_who_finds_room_begins_at_once_and_the_next_when_one_is_done() -> None:
    scene = Scene(room=2)
    first, second, third = (scene.enter("a") for _ in range(3))
    assert [first.is_running, second.is_running, third.is_running] == [True, True, False]
    scene.admission.leave(first, 1.0)
    assert scene.turns == ["a/0", "a/1", "a/2"]
    assert scene.admission.waiting("pool") == 0


def test_one_keys_flood_does_not_starve_another() -> None:
    scene = Scene(room=4, queue_limit=100)
    flooded = 0
    for _ in range(500):
        try:
            scene.enter("flood")
        except Overloaded:
            flooded += 1
    assert flooded == 500 - 4 - 50  # half of the queue is kept for others
    for _ in range(10):
        scene.enter("quiet")
    assert Counter(scene.drain(20)) == {"flood": 10, "quiet": 10}


@given(st.lists(st.sampled_from("abc"), min_size=30, max_size=200), st.integers(1, 8))
def test_keys_that_wait_have_turns_in_equal_number(keys: list[str], room: int) -> None:
    scene = Scene(room)
    for key in keys:
        scene.enter(key)
    waiting = Counter(keys) - Counter(name[0] for name in scene.turns)
    while len([key for key in waiting if waiting[key] > 0]) == 3:
        given_now = Counter(scene.drain(min(3, sum(waiting.values()))))
        # of any three turns while all three wait, each had one, give or take where the round began
        assert max(given_now.values()) <= 2
        waiting -= given_now
    scene.drain(len(keys))
    assert sorted(name[0] for name in scene.turns) == sorted(keys)


def test_the_urgent_go_first_and_the_others_still_have_turns() -> None:
    scene = Scene(room=1, queue_limit=5000)
    scene.enter("running")
    for _ in range(400):
        for priority in Priority:
            scene.enter(str(priority), priority)
    turns = Counter(scene.drain(219))
    assert turns["high"] > 6 * turns["normal"] > 6 * 6 * turns["low"] > 0
    late = Scene(room=1)
    late.enter("running")
    for _ in range(50):
        late.enter("normal")
    late.drain(5)
    late.enter("high", Priority.HIGH)
    assert "high" in late.drain(2)


def test_a_low_request_has_its_turn_while_urgent_ones_keep_coming() -> None:
    scene = Scene(room=1)
    scene.enter("running")
    scene.enter("low", Priority.LOW)
    for _ in range(70):
        scene.enter("high", Priority.HIGH)
    assert "low" in scene.drain(66)


@given(
    st.integers(0, 6),
    st.integers(0, 12),
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(list(Priority)), st.integers(0, 9)), max_size=120),
)
def test_room_and_queue_are_never_exceeded_and_nobody_is_lost(
    room: int, queue_limit: int, moves: list[tuple[str, Priority, int]]
) -> None:
    scene, refused, departed = Scene(room, queue_limit), 0, 0
    for number, (key, priority, action) in enumerate(moves):
        now = float(number)
        inside = [ticket for ticket in scene.tickets.values() if ticket.stage.name != "DEPARTED"]
        if action < 5:
            try:
                scene.enter(key, priority, now + action + 0.5, now)
            except Overloaded as exc:
                assert exc.retry_after_s is not None
                assert 1 <= exc.retry_after_s <= 60
                refused += 1
        elif action < 8 and inside:
            scene.admission.leave(inside[number % len(inside)], now)
            departed += 1
        else:
            scene.admission.expire(now)
            assert all(t.claim.deadline > now for t in scene.tickets.values() if t.stage.name == "WAITING")
        stages = Counter(ticket.stage.name for ticket in scene.tickets.values())
        assert stages["RUNNING"] <= room
        assert stages["WAITING"] == scene.admission.waiting("pool") <= queue_limit
        assert stages["RUNNING"] == scene.admission.running("pool")
        assert not (stages["WAITING"] and stages["RUNNING"] < room)
    assert stages["DEPARTED"] == departed + len(scene.expired) if moves else True


def test_a_full_queue_says_when_it_will_have_been_worked_off() -> None:
    scene = Scene(room=2, queue_limit=40)
    for _ in range(22):
        scene.enter("a", now=0.0)
    with pytest.raises(Overloaded) as unknown:
        scene.enter("a", now=0.0)
    assert unknown.value.retry_after_s == 1  # nothing has left yet
    for number in range(10):
        scene.finish_next(now=(number + 1) * 0.5)  # two a second
        scene.enter("a", now=(number + 1) * 0.5)
    with pytest.raises(Overloaded) as known:
        scene.enter("a", now=5.0)
    assert known.value.retry_after_s == 10  # 20 wait


def test_a_time_without_a_queue_does_not_make_the_pool_look_slow() -> None:
    scene = Scene(room=1, queue_limit=100)
    scene.enter("a", now=0.0)
    for _ in range(20):
        scene.enter("a", now=0.0)
    for number in range(20):
        scene.finish_next(now=(number + 1) * 0.1)
    for _ in range(3):
        scene.enter("a", deadline=3601.0, now=3600.0)
    assert scene.admission.waiting("pool") == 3


def test_who_would_certainly_be_too_late_is_told_at_once() -> None:
    scene = Scene(room=1, queue_limit=1000)
    scene.enter("a")
    for _ in range(60):
        scene.enter("a")
    for number in range(10):
        scene.finish_next(now=number + 1.0)  # one a second, 50 left
    with pytest.raises(Overloaded, match="after its deadline"):
        scene.enter("a", deadline=10.0 + 20.0, now=10.0)
    scene.enter("a", deadline=10.0 + 30.0, now=10.0)  # late, but not certainly
    scene.enter("b", deadline=10.0 + 5.0, now=10.0)  # another key's turn comes sooner


def test_what_waits_past_its_deadline_leaves_the_queue() -> None:
    scene = Scene(room=1)
    scene.enter("a")
    late = scene.enter("a", deadline=2.0)
    scene.enter("a", deadline=9.0)
    scene.admission.expire(1.9)
    assert scene.expired == []
    scene.admission.expire(2.0)
    assert (scene.expired, scene.admission.waiting("pool")) == (["a/1"], 1)
    scene.admission.leave(late, 2.1)
    assert scene.drain(1) == ["a"]
    assert scene.turns == ["a/0", "a/2"]


def test_a_client_that_leaves_while_it_waits_frees_its_place_and_nobody_elses() -> None:
    scene = Scene(room=1)
    running = scene.enter("a")
    waiting = scene.enter("a")
    scene.enter("b")
    scene.admission.leave(waiting, 0.0)
    scene.admission.leave(waiting, 0.0)
    assert scene.turns == ["a/0"]
    scene.admission.leave(running, 0.0)
    assert scene.turns == ["a/0", "b/2"]


def test_replicas_that_come_give_turns_to_those_that_wait() -> None:
    scene = Scene(room=0)
    for _ in range(5):
        scene.enter("a")
    scene.admission.resize("pool", 3, 1.0)
    assert (len(scene.turns), scene.admission.waiting("pool")) == (3, 2)


def test_turns_that_fail_at_once_give_way_to_the_next_without_end() -> None:
    admission, failed = Admission(10_000), 0
    first = admission.enter("pool", 1, Claim(key="a", priority=Priority.NORMAL, deadline=FAR), lambda: None, print, 0.0)
    waiting: list[Ticket] = []

    def fail(number: int) -> Callable[[], None]:
        def on_turn() -> None:
            nonlocal failed
            failed += 1
            admission.leave(waiting[number], 0.0)

        return on_turn

    for number in range(3000):
        claim = Claim(key="a", priority=Priority.NORMAL, deadline=FAR)
        waiting.append(admission.enter("pool", 1, claim, fail(number), print, 0.0))
    admission.leave(first, 0.0)
    assert (failed, admission.waiting("pool"), admission.running("pool")) == (3000, 0, 0)


def test_pools_do_not_wait_for_each_other() -> None:
    scene = Scene(room=1)
    scene.enter("a")
    scene.enter("a")
    claim = Claim(key="a", priority=Priority.NORMAL, deadline=FAR)
    other = scene.admission.enter("other", 1, claim, lambda: None, lambda: None, 0.0)
    assert other.is_running
    assert [scene.admission.waiting(name) for name in ("pool", "other", "third")] == [1, 0, 0]
