"""The order in which the jobs of one process compute."""

from __future__ import annotations

from threading import Event, Thread

from tests.waiting import wait_for
from trainer.training.resident_base import LONGEST_EVERY, Turns, next_place


def test_a_job_that_has_just_come_goes_before_all_others() -> None:
    assert [next_place([1.0, None, None], given) for given in range(LONGEST_EVERY)] == [1] * LONGEST_EVERY


def test_the_job_that_ends_soonest_goes_first_and_the_one_that_waits_longest_comes_on() -> None:
    assert [next_place([9.0, 3.0, 5.0], given) for given in range(LONGEST_EVERY)] == [0, 1, 1, 1]


def test_one_job_computes_at_a_time_and_each_gets_its_turn() -> None:
    turns, inside, steps = Turns(), [], []

    def work(name: str, count: int) -> None:
        with turns.turn() as turn:
            for step in range(count):
                inside.append(name)
                assert inside == [name]
                inside.clear()
                turn.expect(count - step)
                turn.hand_on()
            steps.append(name)

    threads = [Thread(target=work, args=(name, count), daemon=True) for name, count in (("a", 50), ("b", 9), ("c", 5))]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(steps) == len(threads), 60.0)


def test_a_job_waits_while_another_computes() -> None:
    turns, begun, may_end = Turns(), Event(), Event()
    order: list[str] = []

    def first() -> None:
        with turns.turn():
            begun.set()
            may_end.wait(60.0)
            order.append("first")

    def second() -> None:
        with turns.turn():
            order.append("second")

    threads = [Thread(target=each, daemon=True) for each in (first, second)]
    threads[0].start()
    begun.wait(60.0)
    threads[1].start()
    may_end.set()
    wait_for(lambda: order == ["first", "second"], 60.0)
