"""Whatever a Python grader does, its job ends in a state that says so, and the machine is left as it was."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from registry.database import Registry
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from tests.kills.asked import sampled
from tests.trainer.attempts import queue
from tests.trainer.forks.forked_children import ForkedChildren
from trainer.settings import TrainerSettings

pytestmark = pytest.mark.trains

HANGS_AT_ONCE = "while True:\n    pass\n\ndef grade(sample, item):\n    return 1.0\n"
HANGS_ONCE = (
    "import time\n\ndef grade(sample, item):\n"
    "    if item['answer'] == 'answer 3':\n        time.sleep(600)\n"
    "    return len(sample['output_text']) / 8\n"
)
FORKS = "import os\n\ndef grade(sample, item):\n    while True:\n        os.fork()\n"
STARTS_THREADS = (
    "from threading import Event, Thread\n\ndef grade(sample, item):\n"
    "    while True:\n        Thread(target=Event().wait).start()\n"
)
FILLS_MEMORY = "def grade(sample, item):\n    return len([bytearray(10**8) for _ in range(10**4)])\n"
FILLS_DISK = (
    "def grade(sample, item):\n    for at in range(10**6):\n        open(f'/tmp/{at}', 'wb').write(bytes(10**6))\n"
)


def python(source: str) -> Mapping[str, Any]:
    return {"type": "python", "name": "odd", "source": source}


def ended_with(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, source: str, **changes: Any
) -> Job:
    job = queue(registry, sampled("odd", "reinforcement", python(source), **changes))
    forks.work(registry, settings)
    return registry.jobs.get(job.id)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (HANGS_AT_ONCE, "the grader took longer than 10 s"),
        (FORKS, "not permitted"),
        (STARTS_THREADS, "thread"),
        (FILLS_MEMORY, "memory"),
        (FILLS_DISK, "No space left"),
    ],
    ids=["hangs", "forks", "threads", "memory", "disk"],
)
def test_a_grader_that_breaks_a_bound_fails_its_job_by_name(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, source: str, said: str
) -> None:
    ended = ended_with(registry, settings, forks, source)
    assert ended.error is not None
    assert (ended.state, ended.error.code, ended.error.param) == (JobState.FAILED, "grader_failed", "method")
    assert "the grader odd" in ended.error.message
    assert said in ended.error.message
    assert registry.snapshot().revisions == ()


def test_a_grader_that_writes_or_connects_reaches_nothing(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("as it was")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        for body, said in (
            (f"open({str(mine)!r}, 'w').write('changed')", "No such file"),
            (f"import socket; socket.create_connection(('127.0.0.1', {port}))", "not permitted"),
        ):
            ended = ended_with(registry, settings, forks, f"def grade(sample, item):\n    {body}\n    return 1.0\n")
            assert ended.error is not None
            assert ended.error.code == "grader_failed"
            assert said in ended.error.message
        with pytest.raises(BlockingIOError):
            server.accept()
    assert mine.read_text() == "as it was"


def test_a_grader_that_hangs_at_one_prompt_costs_its_time_and_the_reward_of_these_outputs(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren
) -> None:
    ended = ended_with(registry, settings, forks, HANGS_ONCE, n_epochs=1, group_size=2)
    assert (ended.state, ended.error) == (JobState.SUCCEEDED, None)
    (warned,) = [
        event.message
        for event in registry.jobs.events(ended.id, limit=1000)
        if event.level == "warn" and "no grade" in event.message
    ]
    assert "gave no grade to 2 of 8 outputs" in warned
    assert "longer than 10 s" in warned
