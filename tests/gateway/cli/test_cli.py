"""The `lorry` command has exit codes, messages with a remedy, and JSON for scripts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from gateway.cli.adapters import slot_line
from gateway.cli.rollout.plans import parse_duration, parse_steps
from gateway.cli.train import parse_settings
from gateway.objects.adapters import ProofObject, SlotObject
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.states import SlotState
from registry.types import Revision
from tests.gateway.cli.lorry_command import lorry, run_lorry

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_without_a_gateway_it_says_how_to_start_one() -> None:
    assert "`lorry up`" in lorry("http://127.0.0.1:1", "models", "list", code=1)


def test_a_command_that_is_not_understood_exits_with_2(url: str) -> None:
    lorry(url, "rollout", "start", "support", code=2)
    lorry(url, "train", "sft", "--data", "x", "--name", "y", "--set", "epochs=3", code=2)
    lorry(url, "fly", code=2)


def test_a_training_file_is_checked_without_a_gateway(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text((EXAMPLES / "plain.jsonl").read_text() + "{\n")
    assert "line 61" in lorry("http://127.0.0.1:1", "data", "check", str(tmp_path / "broken.jsonl"), code=1)
    assert "60 chats" in lorry("http://127.0.0.1:1", "data", "check", str(EXAMPLES / "plain.jsonl"))


@pytest.fixture
def trainer(publish_queued: Callable[[], Revision | None]) -> Iterator[None]:
    """Publishes what is queued, beside the test."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            if publish_queued() is None:
                stop.wait(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_a_train_job_is_queued_listed_and_cancelled(url: str) -> None:
    data = str(EXAMPLES / "plain.jsonl")
    fits = ["--set", "target_modules=q_proj,v_proj", "--set", "lora_rank=2"]
    job = json.loads(lorry(url, "train", "sft", "--data", data, "--name", "support", *fits, "--json"))
    assert job["status"] == "queued"
    assert job["id"] in lorry(url, "jobs", "list")
    assert "Created" in lorry(url, "jobs", "logs", job["id"])
    assert "cancelled" in lorry(url, "jobs", "cancel", job["id"])


def test_an_upload_without_following_is_a_job(url: str, make_adapter: Callable[..., Path]) -> None:
    words = ["adapters", "publish", str(make_adapter()), "--name", "support", "--no-follow"]
    job = json.loads(lorry(url, *words, "--json"))
    assert (job["status"], job["method"]["type"]) == ("queued", "publish")
    assert "publish" in lorry(url, "jobs", "show", job["id"])


@pytest.mark.long
@pytest.mark.usefixtures("trainer")
def test_publish_show_and_retire(url: str, make_adapter: Callable[..., Path]) -> None:
    assert "support@1" in lorry(url, "adapters", "publish", str(make_adapter(1)), "--name", "support")
    words = ["adapters", "publish", str(make_adapter(2)), "--name", "support"]
    assert "rollout start support@2" in run_lorry(*words, LORRY_URL=url)[1]
    shown = json.loads(lorry(url, "adapters", "show", "support", "--json"))
    assert [revision["name"] for revision in shown["revisions"]] == ["support@2", "support@1"]
    assert "retired" in lorry(url, "adapters", "retire", "support@2")
    assert "has no revision 7" in lorry(url, "adapters", "show", "support@7", code=1)
    assert "revision.retire" in lorry(url, "audit")
    assert "support@1" in lorry(url, "models", "list")
    assert run_lorry("replicas", LORRY_URL=url) == ("", "No replicas.\n")


def test_a_slot_is_shown_with_what_proved_it() -> None:
    loading = SlotObject(state=SlotState.LOADING, reason="", message="", proof=None)
    assert slot_line("r1", loading) == "r1: loading"
    proof = ProofObject(
        passed=False,
        message="",
        prompt_tokens_equal=True,
        mean_difference=0.25,
        largest_difference=1.5,
        separation=0.0,
        tolerance=0.01,
        compared=40,
        recorded=96,
    )
    failed = SlotObject(state=SlotState.FAILED, reason="", message="the adapter is not applied", proof=proof)
    assert slot_line("r1", failed) == (
        "r1: failed the adapter is not applied, not proven: mean difference 0.25 (tolerance 0.01), largest 1.5, "
        "effect 0.00, 40 of 96 tokens"
    )


def test_the_rollout_that_a_job_asks_for_is_judged(url: str, sqlite_registry: Registry) -> None:
    data = ["--data", str(EXAMPLES / "plain.jsonl"), "--set", "target_modules=q_proj,v_proj", "--set", "lora_rank=2"]
    plans = []
    for more in (["--guardrail", "error_rate=0.02", "--every", "5m"], ["--no-judge"]):
        command = ["train", "sft", *data, "--name", "support", "--rollout", "5,25,100", *more, "--json"]
        job = json.loads(lorry(url, *command))
        spec = sqlite_registry.jobs.get(job["id"]).spec
        assert isinstance(spec, SupervisedSpec)
        plans.append(spec.rollout_plan())
    assert plans == [
        RolloutPlan(steps=weighted(5, 25, 100), every_s=300.0, guardrails=GuardrailPlan(error_rate=0.02)),
        RolloutPlan(steps=weighted(5, 25, 100)),
    ]
    assert "unknown guardrail 'x'; there are: error_rate" in lorry(
        url, "train", "sft", *data, "--name", "support", "--rollout", "100", "--guardrail", "x=1", code=1
    )


def test_steps_and_durations_are_read_as_people_write_them() -> None:
    assert parse_steps("5,25,100") == [5, 25, 100]
    assert [parse_duration(text) for text in ("90", "90s", "5m", "1h", None)] == [90, 90, 300, 3600, None]
    for wrong in ("", "soon", "5x"):
        with pytest.raises(typer.BadParameter):
            parse_duration(wrong)
    with pytest.raises(typer.BadParameter):
        parse_steps("5;25")


def test_hyperparameters_are_read_by_their_kind() -> None:
    pairs = ["n_epochs=2", "batch_size=auto", "learning_rate=1e-4", "target_modules=q_proj,v_proj"]
    assert parse_settings(pairs) == {
        "n_epochs": 2,
        "batch_size": "auto",
        "learning_rate": 1e-4,
        "target_modules": ["q_proj", "v_proj"],
    }
    with pytest.raises(typer.BadParameter, match="n_epochs: must be a whole number or auto, not 'two'"):
        parse_settings(["n_epochs=two"])
    for odd in ("nan", "Infinity", "-inf", "1e999"):
        with pytest.raises(typer.BadParameter, match=f"learning_rate: must be a number, not '{odd}'"):
            parse_settings([f"learning_rate={odd}"])
