"""A Lorry over tiny base models: pools sleep, grow and shrink, an engine from elsewhere helps, keys open and close.

Nothing here depends on what the model was taught, so its weights are random. The tests share one `lorry up` and run in
their order: the first key, once created, closes the gateways to everybody without a key.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from engines.drivers.server_process import free_port
from tests.redis_server import RedisServer
from tests.trainer.tiny_base import save_base
from tests.up_process import Up
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.redis]

CONFIG = """
[gateway]
limits_url = "{redis}"
low_disk_bytes = 1

[[engines.pools]]
name = "small"
base = "{base}"
max_replicas = 2
target_requests = 2
scale_up_after_s = 1
scale_down_after_s = 4
engine = {{ max_context = 256, max_batch = 8 }}

[[engines.pools]]
name = "night"
base = "{rare}"
min_replicas = 0
sleep_after_s = 1
engine = {{ max_context = 256, threads = 1 }}
"""
CLIENTS = 6
CHANGE_S = 120.0
BASE = "tiny"
RARE = "rare"
"""The base model of the pool that sleeps."""
CONNECTIONS = 30
"""Enough that both gateways get some of them."""
CHAT = {"model": BASE, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    started = RedisServer()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model with random weights."""
    folder: Path = tmp_path_factory.mktemp("base") / BASE
    save_base(folder)
    shutil.copytree(folder, folder.with_name(RARE))
    return folder


@pytest.fixture(scope="module")
def settings(redis_server: RedisServer, base_path: Path) -> str:
    """A pool that may have two replicas, and one that may have none; gateways that count together in Redis."""
    return CONFIG.format(redis=redis_server.url, base=base_path, rare=base_path.with_name(RARE))


class Crowd:
    """Clients that ask one question after another."""

    def __init__(self, up: Up) -> None:
        self.replicas: list[str] = []
        self.failures: list[str] = []
        self._up = up
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._chat) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _chat(self) -> None:
        client = self._up.client()
        while not self._stop.is_set():
            try:
                told = client.chat.completions.with_raw_response.create(
                    model=BASE, messages=[{"role": "user", "content": "Tell me a story."}], max_tokens=48
                )
                self.replicas.append(str(told.headers["x-lorry-replica"]))
            except openai.OpenAIError as exc:
                self.failures.append(repr(exc))

    def stop(self) -> None:
        """Wait until every client has had its last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def ready(up: Up, pool: str) -> list[str]:
    """Ids of the ready replicas of *pool*."""
    found: list[dict[str, Any]] = json.loads(up.lorry("replicas", "--json"))
    return [replica["id"] for replica in found if (replica["pool"], replica["state"]) == (pool, "ready")]


def pool(up: Up, name: str) -> dict[str, Any]:
    """The pool as `lorry status` has it."""
    status: dict[str, Any] = json.loads(up.lorry("status", "--json"))
    return next(each for each in status["pools"] if each["pool"] == name)


def test_a_chat_wakes_a_pool_that_sleeps(up: Up) -> None:
    assert pool(up, "night")["asleep"]
    client = up.client()
    assert {model.id for model in client.models.list()} == {BASE, RARE}
    began = time.monotonic()
    chat = client.chat.completions.create(model=RARE, messages=[{"role": "user", "content": "hi"}], max_tokens=4)
    print(f"first answer of a pool that slept after {time.monotonic() - began:.1f} s")  # noqa: T201
    assert (chat.model, chat.choices[0].finish_reason) in {(RARE, "length"), (RARE, "stop")}  # by chance
    assert not pool(up, "night")["asleep"]
    again = client.chat.completions.create(
        model=RARE, messages=[{"role": "user", "content": "hi"}], max_tokens=4, stream=True
    )
    assert [part.choices[0].finish_reason for part in again if part.choices][-1] in ("length", "stop")


def test_a_pool_grows_under_load_and_shrinks_after_it(up: Up) -> None:
    assert len(ready(up, "small")) == 1
    crowd = Crowd(up)
    try:
        wait_for(lambda: len(ready(up, "small")) == 2, CHANGE_S)
        seen = len(crowd.replicas)
        wait_for(lambda: len(set(crowd.replicas[seen:])) == 2, CHANGE_S)
    finally:
        crowd.stop()
    wait_for(lambda: len(ready(up, "small")) == 1, CHANGE_S)
    assert crowd.failures == []


def test_an_engine_that_was_started_elsewhere_takes_its_part(up: Up, base_path: Path, home: Path) -> None:
    port = free_port("127.0.0.1")
    command = [sys.executable, "-m", "engines.transformers", "--base-path", str(base_path), "--base-name"]
    command += [BASE, "--port", str(port), "--threads", "1", "--max-context", "256"]
    add = ("replicas", "add", f"http://127.0.0.1:{port}", "--engine", "transformers", "--base", BASE)
    assert f"http://127.0.0.1:{port}/health" in up.lorry(*add, code=1)
    with (home / "elsewhere.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as elsewhere:
        try:
            wait_for(lambda: "is added" in attempt(up, *add), CHANGE_S)
            (replica,) = wait_for(lambda: ready(up, ""), CHANGE_S)
            crowd = Crowd(up)
            wait_for(lambda: replica in crowd.replicas, CHANGE_S)
            up.lorry("replicas", "remove", replica)
            wait_for(lambda: not ready(up, ""), CHANGE_S)
            crowd.stop()
            assert crowd.failures == []
            assert elsewhere.poll() is None
        finally:
            elsewhere.terminate()


def attempt(up: Up, *words: str) -> str:
    """Return what a command prints, whether or not it succeeded."""
    try:
        return up.lorry(*words)
    except AssertionError as exc:
        return str(exc)


def ask(up: Up, key: str) -> int:
    """The status of a chat on a connection of its own."""
    headers = {"authorization": f"Bearer {key}"}
    return int(httpx2.post(f"{up.url}/v1/chat/completions", json=CHAT, headers=headers, trust_env=False).status_code)


def make_key(up: Up, *words: str) -> str:
    secret: str = json.loads(up.lorry("keys", "create", *words, "--json"))["key"]
    return secret


def test_with_the_first_key_both_gateways_ask_for_one(up: Up) -> None:
    assert ask(up, "none") == 200
    found = re.search(r"^sk-lorry-\S+$", up.lorry("keys", "create", "--name", "root"), re.MULTILINE)
    assert found is not None
    assert {ask(up, "none") for _ in range(CONNECTIONS)} == {401}
    assert {ask(up, found.group()) for _ in range(CONNECTIONS)} == {200}
    up.api_key = found.group()


def test_a_revoked_key_is_out_for_good(up: Up) -> None:
    secret = make_key(up, "--name", "chat")
    answered: list[tuple[float, int]] = []
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            status = ask(up, secret)
            answered.append((time.time(), status))

    client = threading.Thread(target=hammer)
    client.start()
    wait_for(lambda: len(answered) > 20)
    revoked = json.loads(up.lorry("keys", "revoke", "chat", "--json"))
    # Each gateway reads the keys for itself, and each connection is to one of them.
    wait_for(lambda: {status for _, status in answered[-CONNECTIONS:]} == {401})
    out = len(answered)
    wait_for(lambda: len(answered) > out + CONNECTIONS)
    stop.set()
    client.join()
    assert {status for _, status in answered} == {200, 401}
    let_in = [at - revoked["revoked_at"] for at, status in answered if status == 200]
    print(f"last answer {max(let_in):.3f} s after the key was revoked")  # noqa: T201
    assert {status for _, status in answered[out:]} == {401}


def test_gateways_count_a_minute_together(up: Up) -> None:
    secret = make_key(up, "--name", "few", "--requests-per-minute", "10")
    began = time.monotonic()
    statuses = [ask(up, secret) for _ in range(CONNECTIONS)]
    assert time.monotonic() - began < 60
    assert (statuses.count(200), statuses.count(429)) == (10, CONNECTIONS - 10)


def test_two_tenants_have_nothing_of_each_other(up: Up, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": r, "content": f"{r} {n}"} for r in ("user", "assistant")]} for n in range(10)]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    small = {"hyperparameters": {"lora_rank": 2, "target_modules": ["q_proj", "v_proj"], "n_epochs": 1}}
    keys = [make_key(up, "--name", name, "--scopes", "inference,training") for name in ("ann", "bob")]
    ann, bob = (up.client().with_options(api_key=key) for key in keys)
    file_id = ann.files.create(file=data, purpose="fine-tune").id
    job_id = ann.fine_tuning.jobs.create(model=BASE, training_file=file_id, suffix="tone", extra_body=small).id
    answer = ann.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "hi"}], max_tokens=1)
    rating = {"completion_id": answer.id, "label": "good"}
    hidden: list[Callable[[], object]] = [
        lambda: bob.files.retrieve(file_id),
        lambda: bob.files.content(file_id),
        lambda: bob.files.delete(file_id),
        lambda: bob.fine_tuning.jobs.retrieve(job_id),
        lambda: bob.fine_tuning.jobs.cancel(job_id),
        lambda: bob.fine_tuning.jobs.list_events(job_id),
        lambda: bob.fine_tuning.jobs.checkpoints.list(job_id),
        lambda: bob.post("/feedback", cast_to=object, body=rating),
    ]
    for call in hidden:
        with pytest.raises(openai.NotFoundError):
            call()
    with pytest.raises(openai.BadRequestError, match="does not exist"):
        bob.fine_tuning.jobs.create(model=BASE, training_file=file_id, suffix="mine", extra_body=small)
    own = bob.files.create(file=data, purpose="fine-tune").id
    with pytest.raises(openai.ConflictError, match="'tone' is taken"):
        bob.fine_tuning.jobs.create(model=BASE, training_file=own, suffix="tone", extra_body=small)
    with pytest.raises(openai.PermissionDeniedError, match="scope admin"):
        rollout = {"revision": 1, "steps": [100]}
        bob.with_options(base_url=up.url).post("/admin/adapters/tone/rollouts", cast_to=object, body=rollout)
    assert {model.id for model in bob.models.list()} == {BASE, RARE}
    assert [file.id for file in bob.files.list()] == [own]
    assert list(bob.fine_tuning.jobs.list()) == []
    ann.post("/feedback", cast_to=object, body=rating)
    assert json.loads(up.lorry("feedback", "list", "--json"))[0]["revision"] == BASE
    wait_for(lambda: ann.fine_tuning.jobs.retrieve(job_id).status in ("succeeded", "failed"), CHANGE_S)
    assert ann.fine_tuning.jobs.retrieve(job_id).status == "succeeded"
    wait_for(lambda: "tone@1" in {model.id for model in ann.models.list()})
    with pytest.raises(openai.NotFoundError, match=f"Models here: {RARE}, {BASE}"):
        bob.chat.completions.create(model="tone@1", messages=[{"role": "user", "content": "hi"}], max_tokens=1)


def test_the_pool_sleeps_again_and_needs_nobody(up: Up) -> None:
    wait_for(lambda: pool(up, "night")["asleep"], CHANGE_S)
    assert json.loads(up.lorry("status", "--json"))["needs"] == []
    assert "night: asleep" in up.lorry("status")


def test_it_ends_in_order(up: Up) -> None:
    assert up.stop(signal.SIGTERM) == 0
