"""The order in which the jobs of one process compute."""

from __future__ import annotations

import random
from random import Random
from threading import Barrier, Event, Thread

from tests.waiting import wait_for
from trainer.training.beside.turns import LONGEST_EVERY, Turns, next_place


def test_a_job_that_has_just_come_goes_before_all_others() -> None:
    assert [next_place([1.0, None, None], given) for given in range(LONGEST_EVERY)] == [1] * LONGEST_EVERY


def test_the_job_that_ends_soonest_goes_first_and_the_one_that_waits_longest_comes_on() -> None:
    assert [next_place([9.0, 3.0, 5.0], given) for given in range(LONGEST_EVERY)] == [0, *[1] * (LONGEST_EVERY - 1)]


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


def test_jobs_that_step_aside_compute_at_once_as_many_as_may_and_keep_their_random_numbers() -> None:
    turns, meeting, drawn = Turns(at_once=2), Barrier(2, timeout=60.0), dict[str, list[float]]()

    def work(name: str, seed: int) -> None:
        with turns.turn() as turn:
            random.seed(seed)
            drawn[name] = [random.random()]
            with turn.aside():
                meeting.wait()  # both are in this block, or the wait fails
            drawn[name].append(random.random())

    threads = [Thread(target=work, args=(name, seed), daemon=True) for name, seed in (("a", 1), ("b", 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    alone = {name: Random(seed) for name, seed in (("a", 1), ("b", 2))}
    assert drawn == {name: [own.random(), own.random()] for name, own in alone.items()}


def test_no_more_jobs_compute_than_may_and_who_comes_back_goes_before_who_waits() -> None:
    turns, begun, may_end = Turns(at_once=1), Event(), Event()
    order: list[str] = []

    def first() -> None:
        with turns.turn() as turn:
            with turn.aside():
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
