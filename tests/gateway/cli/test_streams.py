"""Data goes to standard output, talk to standard error; `--json` is one document, for every command that reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.core import TyperCommand

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.rollouts.rollout import RolloutPlan, weighted
from tests.gateway.cli.command_tree import context_of, every_command
from tests.gateway.cli.lorry_command import run_lorry
from tests.gateway.served import ServedGateway

EXAMPLES = Path(__file__).parents[3] / "examples"
READS = {
    "models list": "",
    "models show": "support",
    "models list --bases": "",
    "models show --json": "tiny",
    "lineage": "support@1",
    "eval list": "",
    "eval suites": "",
    "adapters list": "",
    "adapters show": "support",
    "replicas": "",
    "replicas list": "",
    "ps": "",
    "keys list": "",
    "audit": "",
    "batches list": "",
    "jobs list": "",
    "jobs show": "JOB",
    "jobs logs": "JOB",
    "rollout status": "support",
    "rollout history": "support",
    "feedback list": "",
    "feedback show": "support@1",
    "envs list": "",
    "data check": str(EXAMPLES / "plain.jsonl"),
}
"""Commands that only read, and what is typed after them."""
NEVER_EMPTY = {"envs list", "eval suites"}
"""Lists of what ships with Lorry."""
READS_ELSEWHERE = {
    "estimate train",
    "models verify",
    "estimate serve",
    "eval show",
    "eval compare",
    "status",
    "chat",
    "batches show",
    "batches download",
    "doctor",
    "rollout force",
    "reproduce",
}
"""Commands that read, whose own tests look at both streams or at `--json`."""
ACTS = {
    *(
        "up",
        "down",
        "trainer",
        "merge",
        "quantize",
        "export",
        "models try",
        "eval run",
        "eval resume",
        "eval cancel",
        "eval delete",
        "envs install",
        "envs remove",
        "completion",
        "backup",
        "restore",
    ),
    *("train sft", "train dpo", "train kto", "train orpo", "train simpo", "train reward"),
    *("train reinforcement", "train ppo"),
    *("batches create", "batches cancel"),
    *(
        "jobs cancel",
        "jobs pause",
        "jobs resume",
        "data convert",
        "data review",
        "data from-feedback",
        "graders validate",
        "graders run",
    ),
    *("rollout start", "rollout promote", "rollout pause", "rollout resume", "rollout abort", "rollback"),
    *("models pull", "models remove", "adapters publish", "adapters retire", "adapters owner"),
    *("replicas add", "replicas remove", "keys create", "keys revoke"),
}
"""Commands that change something."""
WITHOUT_JSON = {"up", "down", "trainer", "completion", "batches download"}
"""Commands whose output is no object of the API."""
NEVER_EMPTY = {"envs list", "eval suites"}
"""Lists of what comes with Lorry."""


def test_every_command_is_on_one_of_the_lists_and_has_json() -> None:
    leaves = {words: command for words, command in every_command() if isinstance(command, TyperCommand)}
    known = {*READS, *READS_ELSEWHERE, *ACTS}
    assert leaves.keys() - known == set(), "new commands belong into one of the lists"
    for words, command in leaves.items():
        options = {name for each in command.get_params(context_of(words, command)) for name in each.opts}
        assert ("--json" in options) == (words not in WITHOUT_JSON), words


@pytest.mark.long
def test_what_reads_prints_data_alone_and_json_parses(two_revisions: Registry) -> None:
    two_revisions.rollouts.start("support", 2, RolloutPlan(steps=weighted(25, 100)), "ann")
    with ServedGateway(GatewaySettings(), two_revisions) as served:
        url = f"http://127.0.0.1:{served.port}"
        asked = ["train", "sft", "--data", str(EXAMPLES / "plain.jsonl"), "--name", "other"]
        asked += ["--set", "target_modules=q_proj,v_proj", "--set", "lora_rank=2", "--json"]
        job = json.loads(run_lorry(*asked, LORRY_URL=url)[0])["id"]
        for words, more in READS.items():
            line = [*words.split(), *more.replace("JOB", job).split()]
            output, errors = run_lorry(*line, LORRY_URL=url)
            assert "Next:" not in output, words
            assert "lorry:" not in output, words
            assert (output == "") == errors.startswith("No "), (words, output, errors)
            document, remarks = run_lorry(*line, "--json", LORRY_URL=url)
            json.loads(document)
            assert remarks == "", words


def test_a_list_without_rows_prints_nothing_on_standard_output(sqlite_registry: Registry) -> None:
    with ServedGateway(GatewaySettings(), sqlite_registry) as served:
        for words in (each for each, more in READS.items() if not more and each not in NEVER_EMPTY):
            output, errors = run_lorry(*words.split(), LORRY_URL=f"http://127.0.0.1:{served.port}")
            assert (output, bool(errors)) == ("", True), words
