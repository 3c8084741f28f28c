"""Rollouts that judge themselves, on the real model: bad adapters are taken back, a good one goes through."""

from __future__ import annotations

import threading
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import openai
import psutil
import pytest

from gateway.engines_settings import BUNDLED_BASE
from tests.scenarios.rollout_clients import ADAPTERS, CLIENTS, Clients, Operator
from tests.up_process import Up
from tests.waiting import wait_for

pytestmark = pytest.mark.judged

GATEWAYS: Final = 4
SETTINGS: Final = f"""
[gateway]
replicas = {GATEWAYS}

[engines.engine]
max_adapters = 24
max_context = 512
"""
# Some seconds of a busy machine say nothing of a tenth more or less; times are judged where a story is about them.
NO_TIMES: Final = ("--guardrail", "ttft_p95=off", "--guardrail", "tpot_p95=off")
ROUGH_TIMES: Final = ("--guardrail", "ttft_p95=0.5", "--guardrail", "tpot_p95=0.5")
QUICK: Final = ("--steps", "50,100", "--min-samples", "20")
# Every second request asks for JSON, so twenty of each side would be ten that show anything.
THOROUGH: Final = ("--steps", "50,100", "--min-samples", "40")
IN_FORCE_S: Final = 5.0
END_TIMEOUT_S: Final = 85.0
SLOW_STEP_TIMEOUT_S: Final = 300.0
"""At 5 % ten requests of the canary are two hundred in all."""
HOLDING_LOOKS: Final = 3

Say = Callable[[str], None]


@pytest.fixture(scope="module")
def settings() -> str:
    return SETTINGS


@pytest.fixture
def operator(up: Up) -> Operator:
    return Operator(up)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Shows a measured figure though the test passes."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", end="")  # noqa: T201  figures for people

    return show


def moves(rollout: dict[str, Any]) -> list[tuple[str, int, str]]:
    """State, step and reason of every move."""
    return [(event["state"], event["step"], event["reason"]) for event in rollout["events"]]


def figures(rollout: dict[str, Any]) -> str:
    """The evidence that the rollout was judged on when it ended, for people."""
    began = next(event["at"] for event in rollout["events"] if event["state"] == "progressing")
    return (
        f"{rollout['adapter']}: {rollout['state']} by {rollout['reason']} after {rollout['finished_at'] - began:.1f} s"
    )


def evidence_of(rollout: dict[str, Any], guardrail: str) -> dict[str, Any]:
    """The guardrail's part of the verdict."""
    return next(each for each in rollout["evidence"]["evidence"] if each["guardrail"] == guardrail)


def test_a_good_adapter_goes_through_by_itself_under_load(operator: Operator, say: Say) -> None:
    operator.publish("good", "good")
    with Clients(operator.up, "good", rates=True, asks_json=True) as clients:
        clients.answered(1)
        identity = operator.start("good", "--steps", "5,25,100", "--min-samples", "10", *ROUGH_TIMES)
        rollout = operator.end_of(identity, SLOW_STEP_TIMEOUT_S)
        everywhere = clients.sent_after(rollout["finished_at"] + IN_FORCE_S)
    assert moves(rollout) == [
        ("pending", 0, "requested"),
        ("progressing", 0, "loaded"),
        ("progressing", 1, "no_violation"),
        ("promoted", 1, "no_violation"),
    ]
    assert {answer.revision for answer in everywhere} == {"good@2"}
    assert (clients.failures, clients.cut_off) == ([], [])
    say(f"{figures(rollout)}, {evidence_of(rollout, 'error_rate')['canary_samples']} canary requests")


@pytest.mark.parametrize(
    ("adapter", "guardrail"),
    [
        ("shuffled", "feedback"),
        ("silent_at_times", "empty_answers"),
        ("endless", "length_finishes"),
    ],
)
def test_a_bad_adapter_is_taken_back_by_what_is_wrong_with_it(
    operator: Operator, say: Say, adapter: str, guardrail: str
) -> None:
    name, canary = adapter.replace("_", "-"), f"{adapter.replace('_', '-')}@2"
    operator.publish(name, adapter)
    with Clients(operator.up, name, rates=guardrail == "feedback") as clients:
        clients.answered(1)
        rollout = operator.end_of(operator.start(name, *THOROUGH, *NO_TIMES), END_TIMEOUT_S)
        aborted_at = rollout["finished_at"]
        after = clients.sent_after(aborted_at + IN_FORCE_S)
    assert (rollout["state"], rollout["reason"]) == ("aborted", guardrail)
    assert {answer.revision for answer in after} == {f"{name}@1"}
    assert operator.stable(name) == 1
    assert (clients.failures, clients.cut_off) == ([], [])
    proof = evidence_of(rollout, guardrail)
    late_s = clients.last_of(canary, lambda answer: answer.sent_at) - aborted_at
    answered_s = clients.last_of(canary, lambda answer: answer.done_at) - aborted_at
    say(
        f"{figures(rollout)}, {proof['canary_samples']} canary answers judged ({proof['canary_value']:.2f} against "
        f"{proof['stable_value']:.2f}); last request to the canary {late_s:+.2f} s, last answered {answered_s:+.2f} s"
    )


def test_an_adapter_that_answers_nothing_is_not_even_published(up: Up) -> None:
    told = up.lorry("adapters", "publish", str(ADAPTERS / "empty"), "--name", "empty", code=1)
    assert "answers 0 of the" in told
    assert "empty@1" not in up.lorry("models", "list")


def test_a_canary_is_not_blamed_when_everything_becomes_slow(operator: Operator, say: Say) -> None:
    operator.publish("rush", "good")
    with Clients(operator.up, "rush") as clients:
        clients.answered(20)
        quiet = [answer.first_token_s for answer in clients.answers]
        identity = operator.start("rush", *QUICK, *ROUGH_TIMES)
        with Clients(operator.up, BUNDLED_BASE, clients=12):
            rollout = operator.end_of(identity, END_TIMEOUT_S)
            rush = [answer.first_token_s for answer in clients.answers[len(quiet) :]]
    assert rollout["state"] == "promoted"
    assert median(rush) > 1.5 * median(quiet)
    say(f"{figures(rollout)}; first token after {median(quiet):.2f} s, then {median(rush):.2f} s")


def test_without_traffic_it_holds_and_a_rollback_ends_it(operator: Operator) -> None:
    operator.publish("idle", "good")
    identity = operator.start("idle", *QUICK, *NO_TIMES)
    with Clients(operator.up, "idle", clients=1) as clients:
        clients.answered(10)
    looks: set[float] = set()

    def looked_again() -> bool:
        looks.add(operator.rollout(identity)["judged_at"])
        return len(looks) > HOLDING_LOOKS

    wait_for(looked_again)
    held = operator.rollout(identity)
    assert (held["state"], held["step"]) == ("progressing", 0)
    assert (held["evidence"]["decision"], held["evidence"]["reason"]) == ("hold", "too_few_samples")
    assert "rolled_back" in operator.up.lorry("rollback", "idle")
    rolled_back_at = operator.rollout(identity)["finished_at"]
    with Clients(operator.up, "idle") as clients:
        after = clients.sent_after(rolled_back_at + IN_FORCE_S)
    assert {answer.revision for answer in after} == {"idle@1"}
    assert operator.stable("idle") == 1


def test_of_two_operators_at_once_one_is_obeyed(operator: Operator) -> None:
    operator.publish("disputed", "good")
    identity = operator.start("disputed", "--steps", "50,100", "--min-samples", "1000")
    told: dict[str, int] = {}
    gate = threading.Barrier(2)

    def ask(move: str) -> None:
        gate.wait()
        try:
            operator.post(f"/admin/rollouts/{identity}/{move}")
            told[move] = 200
        except openai.APIStatusError as exc:
            told[move] = exc.status_code

    threads = [threading.Thread(target=ask, args=(move,)) for move in ("promote", "abort")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told.values()) == [200, 409]
    rollout = operator.rollout(identity)
    assert rollout["state"] == ("promoted" if told["promote"] == 200 else "aborted")
    assert len(moves(rollout)) == 3
    assert operator.stable("disputed") == (2 if told["promote"] == 200 else 1)


def kill_one(up: Up, deployment: str) -> psutil.Process:
    """Kill a process of *deployment* with -9, which Ray puts another one in the place of."""
    victim = processes(up, deployment)[0]
    victim.kill()
    return victim


def processes(up: Up, deployment: str) -> list[psutil.Process]:
    """The actors of a deployment below this `lorry up`."""
    found = []
    for process in psutil.Process(up.process.pid).children(recursive=True):
        try:
            if f"ServeReplica:{deployment}:" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(("adapter", "end"), [("good", "promoted"), ("endless", "aborted")])
def test_controller_and_gateway_killed_at_every_step_change_nothing(
    operator: Operator, say: Say, adapter: str, end: str
) -> None:
    name = f"killed-{adapter}"
    operator.publish(name, adapter)
    killed: set[tuple[str, int]] = set()
    with Clients(operator.up, name) as clients:
        clients.answered(1)
        identity = operator.start(name, "--steps", "20,50,100", "--min-samples", "10", *NO_TIMES)

        def ended() -> bool:
            rollout = operator.rollout(identity)
            at = (rollout["state"], rollout["step"])
            if at not in killed:
                wait_for(lambda: len(processes(operator.up, "controller")) == 1)
                for deployment in ("controller", "gateway"):
                    kill_one(operator.up, deployment)
                killed.add(at)
            return rollout["state"] in ("promoted", "aborted")

        wait_for(ended, END_TIMEOUT_S)
        rollout = operator.rollout(identity)
        after = clients.sent_after(rollout["finished_at"] + IN_FORCE_S)
    assert rollout["state"] == end
    assert len(moves(rollout)) == len(set(moves(rollout)))
    assert {answer.revision for answer in after} == {f"{name}@{2 if end == 'promoted' else 1}"}
    assert clients.failures == []
    assert len(clients.cut_off) <= len(killed) * CLIENTS
    wait_for(lambda: len(processes(operator.up, "gateway")) == GATEWAYS)
    say(f"{figures(rollout)}, killed at {sorted(killed)}")
