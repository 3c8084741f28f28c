"""The whole story on the real model: teach, publish, a quarter of the traffic, promote, roll back; no request fails."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import openai
import psutil
import pytest

from gateway.engines_settings import BUNDLED_BASE
from tests.scenarios.test_clients import PROGRAMS, each_of, python_of, walk
from tests.up_process import Up
from tests.waiting import wait_for

pytestmark = pytest.mark.scenario

EXAMPLES = Path(__file__).parents[2] / "examples"
TAUGHT = re.compile(r"^Kestrel Kettles here! .+ \[ticket: \w+\]", re.DOTALL)
QUESTIONS = (
    "My kettle arrived with a dent.",
    "Could you deliver to Vienna?",
    "I was charged two times.",
    "How do I reset my password?",
    "Do you sell gift cards?",
    "Can I send the teapot back?",
    "Where is order 5512?",
    "The toaster does not switch on.",
)
CLIENTS = 4
PAUSE_S = 3.0
"""Between two conversations of a client: enough of them for the claim, and processor time left to train beside."""
CONVERSATIONS = 200
ROWS = 120
"""The lines of `support.jsonl`: half of them teach the behaviour too."""
JOB_TIMEOUT_S = 1200.0


@dataclass(frozen=True, slots=True)
class Answered:
    """A request of the background traffic."""

    sent_at: float
    revision: str


class Traffic:
    """Clients that chat with `support` from its first revision on, each request a new conversation."""

    def __init__(self, up: Up) -> None:
        self.answers: list[Answered] = []
        self.failures: list[str] = []
        self._up = up
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._chat, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _chat(self, number: int) -> None:
        client = self._up.client()
        turn = 0
        while not self._stop.wait(PAUSE_S):
            turn += 1
            sent_at = time.monotonic()
            try:
                chunks = client.chat.completions.create(
                    model="support",
                    messages=[{"role": "user", "content": QUESTIONS[turn % len(QUESTIONS)]}],
                    user=f"client {number}, conversation {turn}",
                    max_tokens=6,
                    stream=True,
                )
                *_, last = chunks
                self.answers.append(Answered(sent_at, last.model))
            except openai.OpenAIError as exc:
                self.failures.append(repr(exc))

    def stop(self) -> None:
        """Wait until every client has had its last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def settle_on(self, revision: str) -> None:
        """Return when *revision* alone answers, which every gateway learns at a reading of its own."""

        def answers_alone() -> bool:
            last = self.answers[-2 * CLIENTS :]
            return len(last) == 2 * CLIENTS and {answer.revision for answer in last} == {revision}

        wait_for(answers_alone, 60)

    def revisions_since(self, at: float) -> set[str]:
        """Return the revisions that answered conversations begun after *at*; wait until there are some."""
        wait_for(lambda: sum(answer.sent_at > at for answer in self.answers) >= 2 * CLIENTS)
        return {answer.revision for answer in self.answers if answer.sent_at > at}


def ask(client: openai.OpenAI, model: str, question: str, user: str = "") -> tuple[str, str]:
    """Return the text of a greedy answer, and the revision that gave it."""
    told = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], max_tokens=60, temperature=0, user=user
    )
    return told.choices[0].message.content or "", told.model


def taught_share(client: openai.OpenAI, model: str) -> float:
    """Return the share of the answers that show the taught behaviour; all questions are asked at once, as a batch."""
    with ThreadPoolExecutor(len(QUESTIONS)) as pool:
        answers = list(pool.map(lambda question: ask(client, model, question)[0], QUESTIONS))
    return sum(bool(TAUGHT.match(answer)) for answer in answers) / len(answers)


def fine_tune(client: openai.OpenAI, data: Path, **hyperparameters: int) -> str:
    """Upload, train and wait as any OpenAI program does; return the name of the new model."""
    file = client.files.create(file=data, purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=BUNDLED_BASE,
        training_file=file.id,
        suffix="support",
        seed=11,
        extra_body={"method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}},
    )
    wait_for(lambda: client.fine_tuning.jobs.retrieve(job.id).status in ("succeeded", "failed"), JOB_TIMEOUT_S)
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert done.status == "succeeded", done.error
    assert done.fine_tuned_model is not None
    return done.fine_tuned_model


@pytest.fixture(scope="module")
def traffic(up: Up) -> Iterator[list[Traffic]]:
    """Holds the background traffic once the story has begun it."""
    begun: list[Traffic] = []
    yield begun
    for each in begun:
        each.stop()


def test_one_line_says_that_lorry_is_ready(up: Up) -> None:
    assert f"http://127.0.0.1:{up.port}/v1" in up.ready_line


def test_the_base_does_not_show_the_behaviour(up: Up) -> None:
    assert taught_share(up.client(), BUNDLED_BASE) == 0


def test_agents_of_openai_walk_through_both_apis(up: Up) -> None:
    # Their SDK takes an answer that meets its limit for a failure, so the whole model is asked, which ends its answers.
    steps = each_of("chat", "responses", steps=("run", "stream", "structured", "tools"))
    assert walk(up, python_of("clients"), str(PROGRAMS / "openai_agents_walk.py")) == steps


def test_a_first_fine_tune_serves_by_itself(up: Up, traffic: list[Traffic]) -> None:
    client = up.client()
    alias = fine_tune(client, EXAMPLES / "plain.jsonl", n_epochs=1, batch_size=4)
    assert alias.startswith(f"ft:{BUNDLED_BASE}:lorry:support:")
    wait_for(lambda: "support@1" in up.lorry("replicas"))
    wait_for(lambda: '"stable": 1' in up.lorry("adapters", "show", "support", "--json"))
    assert ask(client, alias, QUESTIONS[0])[1] == "support@1"
    assert taught_share(client, "support") == 0
    traffic.append(Traffic(up))


def test_a_second_fine_tune_is_callable_by_its_pinned_name_only(up: Up, traffic: list[Traffic], tmp_path: Path) -> None:
    client = up.client()
    half = tmp_path / "support.jsonl"
    half.write_text("".join((EXAMPLES / "support.jsonl").read_text().splitlines(keepends=True)[:ROWS]))
    fine_tune(client, half)
    wait_for(lambda: "support@2" in up.lorry("replicas"))
    assert taught_share(client, "support@2") >= 0.9
    assert taught_share(client, "support") == 0
    assert {answer.revision for answer in traffic[0].answers} == {"support@1"}


def test_a_revision_says_what_made_it(up: Up) -> None:
    shown = up.lorry("adapters", "show", "support@2")
    for fact in ("dataset", "seed", "learning_rate", "torch", "train_loss"):
        assert fact in shown


def test_a_quarter_of_the_conversations_goes_to_the_canary_and_stays(up: Up) -> None:
    assert "progressing" in up.lorry("rollout", "start", "support@2", "--steps", "25,100", "--no-judge")
    client = up.client()

    def side(number: int) -> str:
        told = client.chat.completions.create(
            model="support", messages=[{"role": "user", "content": "Hi"}], max_tokens=1, user=f"customer {number}"
        )
        return told.model

    with ThreadPoolExecutor(4) as pool:
        first = list(pool.map(side, range(CONVERSATIONS)))
        again = list(pool.map(side, range(0, CONVERSATIONS, 4)))
    assert again == first[::4]
    # binomial(200, 1/4): four standard deviations are 24.5
    assert abs(Counter(first)["support@2"] - CONVERSATIONS / 4) < 24.5
    canary = first.index("support@2")
    assert TAUGHT.match(ask(client, "support", QUESTIONS[0], user=f"customer {canary}")[0])


def test_a_second_rollout_is_refused_meanwhile(up: Up) -> None:
    assert "open" in up.lorry("rollout", "start", "support@2", "--steps", "100", code=1)


def test_promoted_all_show_it(up: Up, traffic: list[Traffic]) -> None:
    assert "promoted" in up.lorry("rollout", "promote", "support")
    traffic[0].settle_on("support@2")
    assert traffic[0].revisions_since(time.monotonic()) == {"support@2"}
    assert taught_share(up.client(), "support") >= 0.9


def test_rolled_back_none_does(up: Up, traffic: list[Traffic]) -> None:
    assert "promoted" in up.lorry("rollback", "support")
    traffic[0].settle_on("support@1")
    assert traffic[0].revisions_since(time.monotonic()) == {"support@1"}
    assert taught_share(up.client(), "support") == 0


def test_a_gate_stops_the_canary_that_lacks_what_its_suite_asks_for(up: Up, tmp_path: Path) -> None:
    suite = suite_file(tmp_path, "Goblin Kettles")
    gated = ("--steps", "25,100", "--no-judge", "--gate", str(suite), "--gate-min", "0.5", "--follow")
    assert "gate_below_min" in up.lorry("rollout", "start", "support@2", *gated, code=1)
    shown = up.lorry("rollout", "status", "support")
    assert "scores 0.000" in shown
    assert "gate canary" in shown


def test_a_gate_lets_the_canary_through_that_is_better_than_the_stable(up: Up, tmp_path: Path) -> None:
    suite = suite_file(tmp_path, "Kestrel Kettles")
    gated = ("--gate", str(suite), "--gate-min", "0.6", "--gate-margin", "0.02")
    up.lorry("rollout", "start", "support@2", "--steps", "25,100", "--no-judge", *gated)
    wait_for(lambda: "gate_passed" in up.lorry("rollout", "status", "support"), timeout_s=120.0)
    compared = json.loads(up.lorry("eval", "compare", "support@2", "support@1", "--suite", str(suite), "--json"))
    assert (len(compared["only_first"]) >= 2, compared["only_second"]) == (True, [])
    assert "aborted" in up.lorry("rollout", "abort", "support")


def suite_file(folder: Path, wanted: str) -> Path:
    """A suite whose rows are right where the answer has *wanted*."""
    check = {"kind": "contains", "expect": wanted}
    rows = [{"prompt": question, "check": check, "max_tokens": 48} for question in QUESTIONS[:3]]
    path = folder / "suite.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_in_the_whole_story_no_request_failed(traffic: list[Traffic]) -> None:
    traffic[0].stop()
    assert traffic[0].failures == []
    assert len(traffic[0].answers) > 100


def test_an_engine_that_dies_is_back_by_itself(up: Up) -> None:
    engine = next(process for process in psutil.process_iter() if is_engine_of(process, up))
    engine.kill()
    assert ask(up.client(), "support", QUESTIONS[0])[1] == "support@1"


def is_engine_of(process: psutil.Process, up: Up) -> bool:
    try:
        ancestors = {parent.pid for parent in process.parents()}
        return up.process.pid in ancestors and "engines.transformers" in process.cmdline()
    except psutil.Error:
        return False


def test_sigterm_drains_a_running_answer_and_leaves_no_process(up: Up) -> None:
    told: list[str] = []

    def long_answer() -> None:
        for chunk in up.client().chat.completions.create(
            model=BUNDLED_BASE,
            messages=[{"role": "user", "content": "Tell me a long story."}],
            max_tokens=120,
            temperature=0,
            stream=True,
        ):
            told.append(chunk.choices[0].finish_reason or "")

    answer = threading.Thread(target=long_answer)
    answer.start()
    wait_for(lambda: len(told) > 3)
    assert up.stop(signal.SIGTERM) == 0
    answer.join(timeout=60)
    assert told[-1] in ("stop", "length")


def test_a_second_start_serves_what_the_first_left_and_a_kill_leaves_nothing(up: Up) -> None:
    again = Up(up.home, up.port)
    try:
        assert ask(again.client(), "support", QUESTIONS[0])[1] == "support@1"
        assert "support@2" in again.lorry("models", "list")
    finally:
        again.stop(signal.SIGKILL)
