"""`lorry rollout` reads plans from flags and files, watches until the end, and prints history and lines for scripts."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway.cli.rollout.page import BAR_WIDTH, bar, headline, page
from gateway.cli.rollout.plans import parse_guardrails, parse_steps, plan_body, plan_from_file
from gateway.cli.tables.forms import Reader
from gateway.cli.tables.layout import Screen
from gateway.objects.rollouts import GuardrailEvidence, RolloutObject, RolloutStory
from registry.database import Registry
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.rollout_state import RolloutState
from registry.states import ReplicaState
from tests.clock import Clock
from tests.gateway.cli.lorry_command import COMMAND, environment, lorry, run_lorry
from tests.gateway.stage import bad, count, good, report, tick
from tests.waiting import wait_for

PLAN = """
steps = [5, 25, 100]
every = "2m"

[guardrails]
error_rate = 0.02
min_samples = 50
"""


@pytest.fixture
def loaded(two_revisions: Registry) -> Registry:
    """Both revisions are on the only replica."""
    report(two_revisions, "r1", "support@1", "support@2")
    return two_revisions


def later(registry: Registry, clock: Clock) -> None:
    clock.advance(2.0)
    report(registry, "r1", "support@1", "support@2")
    tick(registry)


def body_of(plan: dict[str, Any], **flags: Any) -> dict[str, Any]:
    unsaid = {"steps": None, "every": None, "guardrails": None, "min_samples": None, "shadow_judge": None}
    return plan_body(plan, **(unsaid | {"judge": True} | flags))


def test_flags_go_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    plan = plan_from_file(tmp_path / "plan.toml")
    assert body_of(plan) == {
        "steps": [5, 25, 100],
        "every_s": 120.0,
        "guardrails": {"error_rate": 0.02, "min_samples": 50},
    }
    told = body_of(plan, steps="shadow:10,50,100", every="5s", guardrails=["feedback=off"], min_samples=7)
    assert told == {
        "steps": ["shadow:10", 50, 100],
        "every_s": 5.0,
        "guardrails": {"error_rate": 0.02, "feedback": False, "min_samples": 7},
    }
    assert body_of({}) == {"steps": [5, 25, 50, 100]}
    assert body_of({}, judge=False)["judge"] is False


def test_what_is_no_plan_is_refused_with_what_to_write(tmp_path: Path) -> None:
    for wrong in ("5;25", "", "shadow:,100", "x"):
        with pytest.raises(typer.BadParameter, match="5,25,100"):
            parse_steps(wrong)
    for wrong in ("error_rate", "error_rate=much", "=0.1"):
        with pytest.raises(typer.BadParameter, match=r"error_rate=0\.02"):
            parse_guardrails([wrong])
    (tmp_path / "plan.toml").write_text("steps = [")
    for path in (tmp_path / "plan.toml", tmp_path / "none.toml"):
        with pytest.raises(typer.BadParameter, match=path.name):
            plan_from_file(path)


def evidence(**changes: Any) -> GuardrailEvidence:
    numbers = {
        "guardrail": "error_rate",
        "canary_samples": 480,
        "stable_samples": 9000,
        "canary_value": 0.012,
        "stable_value": 0.01,
        "difference": 0.002,
        "low": -0.004,
        "high": 0.009,
        "margin": 0.01,
        "unit": "share",
        "is_violated": False,
        "is_cleared": True,
    }
    return GuardrailEvidence.model_validate(numbers | changes)


def test_a_bar_shows_interval_margin_and_no_difference_in_their_places() -> None:
    middle, margin = (BAR_WIDTH - 1) // 2, round(0.75 * (BAR_WIDTH - 1))
    drawn = bar(evidence())
    assert len(drawn) == BAR_WIDTH
    assert (drawn[middle], drawn[margin]) == ("|", "!")
    assert drawn.rindex("=") < margin
    assert middle < drawn.index("o") < margin
    beyond = bar(evidence(difference=0.5, low=0.3, high=None))
    assert beyond.endswith("o")
    assert beyond.count("=") == 0
    assert bar(evidence(margin=0.0, difference=0.0, low=0.0, high=0.0)).strip() == "o"


@pytest.mark.parametrize(
    ("state", "weight", "expected"),
    [
        ("promoted", 0, "a@2 serves all traffic since 0 s ago; before that a@1 did"),
        ("aborted", 0, "a@1 serves all traffic; the rollout of a@2 was aborted 0 s ago"),
        ("pending", 0, "a@1 serves all traffic; a@2 is not loaded yet"),
        ("progressing", 5, "a@1 serves 95 %, a@2 5 % of the traffic"),
        ("paused", 5, "a@1 serves 95 %, a@2 5 % of the traffic, held by a pause"),
        ("progressing", 0, "a@1 serves all traffic; a@2 gets copies of 10 % of the requests"),
    ],
)
def test_the_first_line_says_what_serves_now(state: str, weight: int, expected: str) -> None:
    rollout = RolloutObject(
        id="ro-1",
        adapter="a",
        canary="a@2",
        stable="a@1",
        state=RolloutState(state),
        steps=[5, 100],
        every_s=None,
        guardrails=None,
        shadow_judge=None,
        step=0,
        canary_weight=weight,
        shadow_percent=10,
        reason="requested",
        message="",
        actor="ann",
        created_at=0.0,
        step_since=0.0,
        finished_at=time.time(),
        judged_at=None,
        evidence=None,
    )
    assert headline(rollout) == expected


@pytest.mark.long
def test_a_file_starts_a_judged_rollout_and_a_wrong_one_says_which_field(
    url: str, loaded: Registry, tmp_path: Path
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    told = json.loads(lorry(url, "rollout", "start", "support@2", "--plan", str(tmp_path / "plan.toml"), "--json"))
    assert (told["state"], told["every_s"], told["guardrails"]["error_rate"]) == ("progressing", 120.0, 0.02)
    assert told["guardrails"]["feedback"] == GuardrailPlan().feedback
    lorry(url, "rollout", "abort", "support")
    for flags, word in (
        (["--guardrail", "eror_rate=0.1"], "did you mean 'error_rate'?"),
        (["--guardrail", "error_rate=7"], "error_rate must be"),
        (["--steps", "25,5,100"], "--steps must rise"),
        (["--steps", "25,shadow:5,100"], "shadow steps come before"),
        (["--shadow-judge", "tiny"], "--shadow-judge needs a shadow step, for example --steps shadow:10,25,100"),
        (
            ["--no-judge", "--guardrail", "error_rate=0.1"],
            "--guardrail: they need a judge; leave",
        ),
    ):
        assert word in lorry(url, "rollout", "start", "support@2", *flags, code=1)
    by_hand = json.loads(lorry(url, "rollout", "start", "support@2", "--no-judge", "--json"))
    assert by_hand["guardrails"] is None


@pytest.fixture
def watched(url: str, loaded: Registry) -> Iterator[list[subprocess.Popen[str]]]:
    """Holds the watching command that a test starts."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for command in started:
        command.kill()
        command.wait()
        if command.stdout is not None:
            command.stdout.close()


@pytest.mark.long
def test_without_a_terminal_watching_prints_a_line_for_each_change(
    url: str, loaded: Registry, clock: Clock, watched: list[subprocess.Popen[str]]
) -> None:
    lorry(url, "rollout", "start", "support@2", "--steps", "5,25,100")
    words = ("rollout", "status", "support", "--watch")
    for extra in ([], ["--json"]):
        watched.append(
            subprocess.Popen([*COMMAND, *words, *extra], stdout=subprocess.PIPE, text=True, env=environment(url))
        )
    first = [command.stdout.readline() for command in watched if command.stdout is not None]
    assert "support@2  progressing (loaded)  5 %" in first[0]
    assert json.loads(first[1])["canary_weight"] == 5
    rollout = loaded.rollouts.open_for("support")
    assert rollout is not None
    count(loaded, rollout, 0, bad(60), good(1000))
    later(loaded, clock)
    lines, documents = [command.communicate(timeout=30)[0].splitlines() for command in watched]
    assert [command.returncode for command in watched] == [1, 1]
    assert "aborted (error_rate)" in lines[-1]
    assert "60 canary requests" in lines[-1]
    assert json.loads(documents[-1])["evidence"]["decision"] == "abort"


@pytest.mark.long
def test_in_a_terminal_watching_is_a_page_that_ends_with_the_rollout(
    url: str, loaded: Registry, clock: Clock, watched: list[subprocess.Popen[str]]
) -> None:
    lorry(url, "rollout", "start", "support@2", "--steps", "5,25,100")
    terminal, theirs = pty.openpty()
    command = [*COMMAND, "rollout", "status", "support", "--watch"]
    surroundings = {**environment(url), "TERM": "xterm", "LINES": "60"}
    watched.append(subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, text=True, env=surroundings))
    os.close(theirs)
    shown: list[str] = []
    rollout = loaded.rollouts.open_for("support")
    assert rollout is not None
    for step, steps in enumerate(("(5) -> 25 -> 100", "5 -> (25) -> 100")):
        read_until(terminal, shown, steps)
        count(loaded, rollout, step, good(1000), good(1000))
        later(loaded, clock)
    read_until(terminal, shown, None)
    os.close(terminal)
    assert watched[0].wait(timeout=30) == 0
    text = "".join(shown)
    for word in ("GUARDRAIL", "error_rate", "promoted (no_violation)", "MOVED", "1000/1000", "2000/2000"):
        assert word in text


def read_until(terminal: int, shown: list[str], word: str | None) -> None:
    """Take what the terminal shows until *word* is there, or until the command has closed it."""

    def came() -> bool:
        try:
            shown.append(os.read(terminal, 65536).decode(errors="replace"))
        except OSError:
            return True
        return word is not None and word in "".join(shown)

    wait_for(came)


@pytest.mark.long
def test_a_start_that_follows_ends_with_the_rollout_and_says_what_the_step_waits_for(
    url: str, loaded: Registry, clock: Clock, watched: list[subprocess.Popen[str]]
) -> None:
    command = [*COMMAND, "rollout", "start", "support@2", "--steps", "5,100", "--follow"]
    watched.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(url)))
    assert watched[0].stdout is not None
    first = watched[0].stdout.readline()
    assert "support@2  progressing (loaded)  5 %" in first
    rollout = loaded.rollouts.open_for("support")
    assert rollout is not None
    count(loaded, rollout, 0, good(8), good(160))
    later(loaded, clock)
    second = watched[0].stdout.readline()
    assert "8 of 100 canary requests, waiting for traffic" in second
    count(loaded, rollout, 0, good(1000), good(1000))
    later(loaded, clock)
    lines = watched[0].communicate(timeout=30)[0].splitlines()
    assert watched[0].returncode == 0
    assert "promoted (no_violation)" in lines[-1]


@pytest.mark.long
def test_a_start_without_a_replica_of_its_base_returns_with_what_to_do(
    url: str, two_revisions: Registry, clock: Clock
) -> None:
    two_revisions.replicas.expire(10.0)
    clock.advance(100.0)
    assert two_revisions.replicas.expire(10.0) == ["r1"]
    page = " ".join(lorry(url, "rollout", "start", "support@2").split())
    assert "support@2 is not loaded yet" in page
    assert "No replica serves the base model 'tiny'. Give it a pool in the settings, [[engines.pools]]" in page
    assert f'base = "{two_revisions.bases.get("tiny").path}"' in page
    assert "`lorry rollout abort support` ends it" in page
    report(two_revisions, "r2", state=ReplicaState.UNHEALTHY)
    shown = json.loads(lorry(url, "rollout", "status", "support", "--json"))
    assert shown["obstacle"].startswith("No replica of the base model 'tiny' answers: r2 is unhealthy. Lorry starts")
    report(two_revisions, "r3", state=ReplicaState.STARTING)
    shown = json.loads(lorry(url, "rollout", "status", "support", "--json"))
    assert (shown["state"], shown["obstacle"]) == ("pending", None)


def test_history_gives_reason_and_evidence_of_each(url: str, loaded: Registry, clock: Clock) -> None:
    lorry(url, "rollout", "start", "support@2", "--steps", "5,100")
    rollout = loaded.rollouts.open_for("support")
    assert rollout is not None
    count(loaded, rollout, 0, bad(60), good(1000))
    later(loaded, clock)
    lorry(url, "rollout", "start", "support@2", "--no-judge", "--steps", "5,100")
    lorry(url, "rollout", "promote", "support")
    told = lorry(url, "rollout", "history", "support")
    assert "error_rate is 50.00% in 60 canary requests" in " ".join(told.split())
    newest, oldest = json.loads(lorry(url, "rollout", "history", "support", "--json"))
    assert (newest["state"], newest["evidence"]) == (RolloutState.PROMOTED, None)
    assert oldest["evidence"]["evidence"][0]["is_violated"]
    assert "GUARDRAIL" not in lorry(url, "rollout", "status", "support")


def test_the_page_has_every_guardrail_and_every_move(url: str, loaded: Registry, clock: Clock) -> None:
    lorry(url, "rollout", "start", "support@2", "--steps", "shadow:10,5,100")
    told = lorry(url, "rollout", "status", "support")
    assert "copies of 10 % of the requests" in told
    assert "(shadow:10) -> 5 -> 100" in told
    lorry(url, "rollout", "promote", "support")
    rollout = loaded.rollouts.open_for("support")
    assert rollout is not None
    count(loaded, rollout, 1, replace(good(20), output_tokens=50), replace(good(400), output_tokens=400_000))
    later(loaded, clock)
    shown = RolloutStory.model_validate_json(lorry(url, "rollout", "status", "support", "--json"))
    screen = Screen(reader=Reader.TERMINAL, width=200)
    text = "\n".join(line.plain for line in page(shown, screen, notice="the gateway has not answered for 3 s"))
    for word in ("hold (too_few_samples)", "error_rate", "feedback", "20/400", "requested", "not answered for 3 s"):
        assert word in text
    assert "2.5 tokens, stable 1,000.0" in text


def test_a_key_is_held_on_a_side_listed_and_let_go(url: str, loaded: Registry) -> None:
    force = ("rollout", "force", "support")
    assert "ann is pinned to canary" in lorry(url, *force, "--key", "ann", "--side", "canary")
    (held,) = json.loads(lorry(url, *force, "--list", "--json"))
    assert (held["sticky_key"], held["side"]) == ("ann", "canary")
    assert "ann" in lorry(url, *force, "--list")
    assert "The override of ann is removed" in lorry(url, *force, "--key", "ann", "--clear")
    assert run_lorry(*force, "--list", LORRY_URL=url) == ("", "support has no overrides.\n")
    lorry(url, *force, "--key", "ann", "--clear", code=1)
    for wrong in (
        [],
        ["--key", "ann"],
        ["--key", "ann", "--side", "left"],
        ["--side", "canary"],
        ["--key", "a", "--list"],
    ):
        lorry(url, *force, *wrong, code=2)
