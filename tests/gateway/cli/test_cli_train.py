"""`lorry train` queues a job of every method at a real gateway, also of a file that was made of ratings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.train import METHODS
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.database import Registry
from registry.rollouts.answered_completion import AnsweredCompletion
from registry.types import LOCAL_TENANT
from tests.gateway.cli.lorry_command import lorry

FITS = ("--set", "target_modules=q_proj,v_proj", "--set", "lora_rank=2")
GRADER = {
    "type": "string_check",
    "name": "same",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def pair(number: int) -> dict[str, Any]:
    return {
        "input": {"messages": [user(f"q{number}")]},
        "preferred_output": [assistant("yes")],
        "non_preferred_output": [assistant("no")],
    }


ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "sft": lambda number: {"messages": [user(f"q{number}"), assistant("yes")]},
    "dpo": pair,
    "orpo": pair,
    "simpo": pair,
    "reward": pair,
    "kto": lambda number: {"messages": [user(f"q{number}"), assistant("yes")], "label": number % 2 == 0},
    "reinforcement": lambda number: {"messages": [user(f"q{number}")], "answer": "yes"},
    "ppo": lambda number: {"messages": [user(f"q{number}")], "answer": "yes"},
}
OWN = {
    "sft": ("keep", "last"),
    "dpo": ("beta", "0.2"),
    "kto": ("desirable_weight", "1.5"),
    "orpo": ("beta", "0.3"),
    "simpo": ("gamma", "0.5"),
    "reward": ("n_epochs", "2"),
    "reinforcement": ("algorithm", "rloo"),
    "ppo": ("gae_lambda", "0.9"),
}


@pytest.fixture
def grader(tmp_path: Path) -> Path:
    path = tmp_path / "grader.json"
    path.write_text(json.dumps(GRADER))
    return path


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Path]:
    files = {}
    for command, row in ROWS.items():
        files[command] = tmp_path / f"{command}.jsonl"
        files[command].write_text("".join(json.dumps(row(number)) + "\n" for number in range(10)))
    return files


@pytest.mark.long
@pytest.mark.parametrize("command", METHODS)
def test_every_method_has_a_command_that_queues_its_job(
    url: str, sqlite_registry: Registry, rows: dict[str, Path], grader: Path, command: str
) -> None:
    method, _ = METHODS[command]
    key, value = OWN[command]
    words = ["train", command, "--data", str(rows[command]), "--name", "support", *FITS, "--set", f"{key}={value}"]
    graded = ["--grader", str(grader)] if command in ("reinforcement", "ppo") else []
    job = json.loads(lorry(url, *words, *graded, "--json"))
    assert (job["status"], job["method"]["type"], job["lorry"]["adapter"]) == ("queued", method, "support")
    spec = sqlite_registry.jobs.get(job["id"]).spec
    assert isinstance(spec, FineTuneSpec)
    assert str(dict(spec)[key]) == value
    assert job["id"] in lorry(url, "jobs", "list")
    if graded:
        assert "needs --grader FILE" in lorry(url, *words, code=2)
    else:
        assert "takes no --grader" in lorry(url, *words, "--grader", str(grader), code=2)


@pytest.mark.long
def test_a_job_names_the_jobs_to_wait_for_and_shows_its_place(url: str, rows: dict[str, Path]) -> None:
    words = ["train", "sft", "--data", str(rows["sft"]), "--name", "support", *FITS, "--json"]
    first, second = (json.loads(lorry(url, *words))["id"] for _ in range(2))
    last = json.loads(lorry(url, *words, "--after", first, "--after", second[:14]))
    assert last["lorry"]["after"] == [first, second]
    shown = lorry(url, "jobs", "show", last["id"])
    for text in ("3 of 3 in the queue", f"waits until {first}, {second} succeeded"):
        assert text in shown
    assert "PLACE" in lorry(url, "jobs", "list")
    told = lorry(url, *words, "--after", "ftjob-none", code=1)
    assert "ftjob-none" in told


def test_a_grader_that_is_not_json_or_not_right_is_named(url: str, rows: dict[str, Path], tmp_path: Path) -> None:
    wrong = tmp_path / "grader.json"
    words = ["train", "ppo", "--data", str(rows["ppo"]), "--name", "support", *FITS, "--grader", str(wrong)]
    assert "grader.json: No such file" in lorry(url, *words, code=1)
    wrong.write_text("{")
    assert "grader.json: is not JSON" in lorry(url, *words, code=1)
    wrong.write_text(json.dumps(GRADER | {"operation": "near"}))
    assert "operation" in lorry(url, *words, code=1)


def test_rows_of_another_method_are_refused_with_what_the_method_reads(url: str, rows: dict[str, Path]) -> None:
    told = lorry(url, "train", "dpo", "--data", str(rows["kto"]), "--name", "support", *FITS, code=1)
    assert "preference pairs" in told


def test_ratings_become_a_file_that_kto_learns_from(url: str, sqlite_registry: Registry) -> None:
    at = sqlite_registry.transactions.now()
    answers = [AnsweredCompletion(f"chatcmpl-{n}", LOCAL_TENANT, "tiny", "r0", None, at) for n in range(10)]
    sqlite_registry.tallies.put("gateway-1", {}, answers)
    for number, answer in enumerate(answers):
        chat = {"messages": [user(f"q{number}"), assistant("yes")]}
        sqlite_registry.feedback.rate(answer.id, float(number % 2), "", chat=chat)
    made = json.loads(lorry(url, "data", "from-feedback", "tiny", "--json"))
    assert (made["purpose"], made["filename"]) == ("fine-tune", "feedback.jsonl")
    assert "lorry train kto --file file-" in lorry(url, "data", "from-feedback", "tiny")
    job = json.loads(lorry(url, "train", "kto", "--file", made["id"], "--name", "support", *FITS, "--json"))
    assert (job["training_file"], job["method"]["type"]) == (made["id"], "kto")
    assert "give --data FILE, or --file ID" in lorry(url, "train", "kto", "--name", "support", code=2)
    told = lorry(url, "data", "from-feedback", "support", code=1)
    assert "support" in told
