"""`lorry status`, `lorry ps` and `lorry chat`: one page, one line a server, one answer while it is generated."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.disk import TRAINER, Liveness
from registry.jobs.job import JobError
from registry.jobs.job_state import JobState
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.states import SlotState
from registry.types import Slot
from tests.gateway.cli.lorry_command import COMMAND, environment, lorry, run_lorry
from tests.gateway.replica_rows import replica_row
from tests.gateway.served import ServedGateway
from tests.stub_engine import Script, StubEngine, StubHandler

EXAMPLES = Path(__file__).parents[3] / "examples"
WORDS = ("Hel", "lo ", "there")


def event(text: str, finish_reason: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice], **more}
    return f"data: {json.dumps(chunk)}\n\n".encode()


def streamed(*words: str, pause_s: float = 0.0, seen: list[str] | None = None) -> Script:
    """A script that streams *words*, and notes in *seen* that the client has left."""

    def script(handler: StubHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("connection", "close")
        handler.end_headers()
        try:
            for word in words:
                handler.wfile.write(event(word))
                handler.wfile.flush()
                time.sleep(pause_s)
            usage = {"prompt_tokens": 3, "completion_tokens": len(words), "total_tokens": 3 + len(words)}
            handler.wfile.write(event("", finish_reason="stop", usage=usage) + b"data: [DONE]\n\n")
        except OSError:
            if seen is not None:
                seen.append("left")

    return script


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    running = StubEngine(streamed(*WORDS))
    yield running
    running.close()


@pytest.fixture
def url(two_revisions: Registry, engine: StubEngine, tmp_path: Path) -> Iterator[str]:
    """A gateway whose replica is *engine*, with `support@1` stable, `support@2` loaded, and a home of its own."""
    slots = tuple(Slot(served_name=f"support@{number}", state=SlotState.READY) for number in (1, 2))
    replica = replica_row(
        "r1", url=engine.url, slots=slots, started_at=time.time() - 100, load=3, memory_bytes=1_400_000_000
    )
    two_revisions.replicas.report(replica)
    with ServedGateway(GatewaySettings(low_disk_bytes=1), two_revisions, home=tmp_path) as served:
        yield f"http://127.0.0.1:{served.port}"


def test_the_status_of_a_lorry_that_needs_nobody(url: str, tmp_path: Path) -> None:
    Liveness(tmp_path, TRAINER).beat()
    page = lorry(url, "status")
    assert "1 of 1 ready, 3 requests, transformers with tiny" in page
    assert "trainer" in page
    assert page.endswith("NEEDS YOU\n  nothing\n")
    found = json.loads(lorry(url, "status", "--json"))
    assert (found["object"], found["needs"], len(found["gateways"])) == ("status", [], 1)


def test_the_status_names_what_moves_and_what_needs_a_person(url: str, two_revisions: Registry, tmp_path: Path) -> None:
    rollout = two_revisions.rollouts.start("support", 2, RolloutPlan(steps=weighted(25, 100)), "ann")
    Liveness(tmp_path, TRAINER).beat()
    os.utime(tmp_path / "run" / "trainer.alive", (0, 0))
    output, _ = run_lorry("status", LORRY_URL=url, code=3)
    assert "support@2" in output.partition("MOVES")[2].partition("NEEDS YOU")[0]
    assert "trainer: it was not seen at work for two minutes" in output
    found = json.loads(run_lorry("status", "--json", LORRY_URL=url, code=3)[0])
    assert [need["kind"] for need in found["needs"]] == ["part_silent"]
    assert [each["id"] for each in found["rollouts"]] == [rollout.id]


def test_a_failed_job_needs_a_person_until_the_adapter_has_a_later_job(url: str, two_revisions: Registry) -> None:
    asked = ["train", "sft", "--data", str(EXAMPLES / "plain.jsonl"), "--name", "other", "--json"]
    asked += ["--set", "target_modules=q_proj,v_proj", "--set", "lora_rank=2"]
    failed = json.loads(lorry(url, *asked))["id"]
    lease = two_revisions.jobs.claim("w1", 60.0)
    assert lease is not None
    two_revisions.jobs.finish(lease, JobState.FAILED, JobError(code="out_of_memory", message="no room for a batch"))
    page = run_lorry("status", LORRY_URL=url, code=3)[0]
    assert f"{failed}: no room for a batch\n      lorry jobs logs {failed}" in page
    later = json.loads(lorry(url, *asked))["id"]
    page = lorry(url, "status")
    assert (failed in page, later in page) == (False, True)
    lorry(url, "jobs", "cancel", later)
    assert "nothing" in lorry(url, "status")


def test_the_status_reads_well_in_80_columns(url: str) -> None:
    for line in lorry(url, "status", COLUMNS="80").splitlines():
        assert "  " in line or line.isupper() or line.startswith("Lorry") or not line


def test_every_inference_server_has_a_line(url: str) -> None:
    header, line = lorry(url, "ps").splitlines()
    assert header.split() == ["REPLICA", "STATE", "ENGINE", "BASE", "PROVEN", "REQUESTS", "MEMORY", "SINCE", "POOL"]
    assert line.split()[:7] == ["r1", "ready", "transformers", "tiny", "2/2", "3", "1400000000"]
    assert json.loads(lorry(url, "ps", "--json"))[0]["memory_bytes"] == 1_400_000_000


def chat(url: str, *words: str, said: str, code: int = 0, patched: pytest.MonkeyPatch) -> tuple[str, str]:
    patched.setattr(sys, "stdin", io.StringIO(said))
    return run_lorry("chat", *words, LORRY_URL=url, code=code)


def test_a_message_from_a_pipe_is_answered_alone(url: str, engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    output, errors = chat(url, "support", "--system", "Be brief.", said="Hi\n", patched=monkeypatch)
    assert (output, errors) == ("Hello there\n", "")
    asked = json.loads(engine.bodies[-1])
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert asked["messages"][1]["content"] == "Hi"
    words = ("support", "--temperature", "0", "--max-tokens", "7", "--json")
    [answer] = json.loads(chat(url, *words, said="Hi", patched=monkeypatch)[0])
    assert (answer["content"], answer["revision"], answer["completion_tokens"]) == ("Hello there", "support@1", 3)
    asked = json.loads(engine.bodies[-1])
    assert (asked["temperature"], asked["max_tokens"]) == (0, 7)


def test_two_models_answer_the_same(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    output, _ = chat(url, "support@1", "support@2", said="Hi", patched=monkeypatch)
    assert output == "== support@1 ==\nHello there\n\n== support@2 ==\nHello there\n"


def cut_off(handler: StubHandler) -> None:
    """Stream a word, then end."""
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("connection", "close")
    handler.end_headers()
    handler.wfile.write(event("Hel"))


def test_an_answer_that_is_not_whole_is_an_error_with_what_there_was(
    url: str, engine: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.scripts = [cut_off]
    output, errors = chat(url, "support", said="Hi", code=1, patched=monkeypatch)
    assert output == "Hel\n"
    assert errors.startswith("lorry: support: the ")


@pytest.mark.long
def test_a_model_cannot_steer_the_terminal(terminal: Callable[..., Terminal], engine: StubEngine) -> None:
    engine.scripts = [streamed("be\x1b]0;evil\x07fore", "\x9b2Jafter")]
    shown = terminal("chat", "support")
    shown.wait_for("> ")
    shown.type("Hi\n")
    shown.wait_for("tokens")
    assert "be]0;evilfore2Jafter" in shown.seen


def test_a_name_that_is_not_there_lists_those_that_are(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, errors = chat(url, "suport", said="Hi", code=1, patched=monkeypatch)
    assert "support@2" in errors
    assert "empty" in chat(url, "support", said=" \n", code=1, patched=monkeypatch)[1]


@pytest.fixture
def terminal(url: str) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*words: str) -> Terminal:
        opened.append(Terminal(url, *words))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, url: str, *words: str) -> None:
        self._screen, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(url, TERM="dumb"),
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until *text* was shown."""
        deadline = time.monotonic() + 30
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self._screen], [], [], 0.2)[0]:
                self.seen += os.read(self._screen, 65536).decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._screen)


@pytest.mark.long
def test_a_chat_remembers_what_was_said_and_ctrl_c_ends_the_answer_only(
    terminal: Callable[..., Terminal], engine: StubEngine
) -> None:
    left: list[str] = []
    engine.scripts = [streamed(*WORDS), streamed(*["on "] * 400, pause_s=0.05, seen=left), streamed(*WORDS)]
    shown = terminal("chat", "support")
    shown.wait_for("> ")
    shown.type("First\n")
    shown.wait_for("3 tokens")
    shown.type("Second\n")
    shown.wait_for("on on on")
    shown.process.send_signal(signal.SIGINT)
    shown.wait_for("interrupted")
    shown.type("Third\n")
    deadline = time.monotonic() + 30
    while len(engine.bodies) < 3 or not left:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    said = [message["content"] for message in json.loads(engine.bodies[2])["messages"]]
    assert said[:3] == ["First", "Hello there", "Second"]
    assert said[3].startswith("on on on")
    assert said[4] == "Third"
    shown.type("/quit\n")
    assert shown.process.wait(timeout=30) == 0


@pytest.mark.long
def test_the_status_stays_on_the_screen_until_ctrl_c(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("status", "--watch")
    shown.wait_for("NEEDS YOU")
    shown.process.send_signal(signal.SIGINT)
    assert shown.process.wait(timeout=30) == 130
