"""The same spec gives the same bytes, stopped or not, and the reported figures are right."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import LlamaForCausalLM

from registry.contracts.fingerprint import check_fingerprint
from registry.contracts.job_spec import LoraSpec
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.publishing.checks import check_adapter
from registry.types import Base
from tests.trainer.conftest import MakeSpec
from tests.trainer.tiny_base import ROWS, write_chats
from trainer.checkpoints import SEAL
from trainer.errors import JobFailed
from trainer.order import ChildOrder
from trainer.progress import CheckpointSaved, Noted, PhaseBegan, Progress, RecipeFinished, RecipeStopped, Stepped
from trainer.recipes import load_recipe

Train = Callable[..., RecipeFinished | RecipeStopped]

pytestmark = [pytest.mark.trains, pytest.mark.filterwarnings("ignore:Could not find a config file")]


class Run:
    """A job folder in which attempts are made."""

    def __init__(self, folder: Path, base: Path, spec: SupervisedSpec) -> None:
        self.folder = folder
        self.base = base
        self.spec = spec
        self.reported: list[Progress] = []
        self.attempts = 0

    def attempt(self, stop_after: int | None = None, validate: bool = False) -> RecipeFinished | RecipeStopped:
        """Train until the end, or until *stop_after* steps are done."""
        self.attempts += 1
        attempt_folder = self.folder / f"attempt-{self.attempts}"
        attempt_folder.mkdir(parents=True)
        chats = write_chats(self.folder / "chats.jsonl")
        order = ChildOrder[SupervisedSpec](
            spec=self.spec,
            base_path=self.base,
            inputs={"training_file": chats} | ({"validation_file": chats} if validate else {}),
            job_folder=self.folder,
            attempt_folder=attempt_folder,
            threads=1,
            nice=0,
            keep_checkpoints=2,
            worker_pid=os.getpid(),
        )
        recipe = load_recipe(self.spec)
        return recipe(order, self.reported.append, lambda: stop_after is not None and self.last_step >= stop_after)

    @property
    def steps(self) -> list[Stepped]:
        return [progress for progress in self.reported if isinstance(progress, Stepped)]

    @property
    def curve(self) -> list[tuple[int, float, float, int]]:
        return [(step.step, step.train_loss, step.learning_rate, step.tokens) for step in self.steps]

    @property
    def last_step(self) -> int:
        saved = [progress.step for progress in self.reported if isinstance(progress, CheckpointSaved | Stepped)]
        return max(saved, default=0)

    @property
    def adapter(self) -> Path:
        return self.folder / f"attempt-{self.attempts}" / "final"

    @property
    def digest(self) -> str:
        return sha256((self.adapter / "adapter_model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_run(tmp_path: Path, tiny_base: Path, make_spec: MakeSpec) -> Callable[..., Run]:
    made: list[Run] = []

    def make(**fields: object) -> Run:
        made.append(Run(tmp_path / f"job-{len(made)}", tiny_base, make_spec(**fields)))
        return made[-1]

    return make


def test_a_run_learns_and_tells_every_step(make_run: Callable[..., Run]) -> None:
    run = make_run(n_epochs=6)
    outcome = run.attempt()
    assert isinstance(outcome, RecipeFinished)
    assert [step.step for step in run.steps] == list(range(1, 19))
    assert {step.total_steps for step in run.steps} == {18}
    assert run.steps[-1].train_loss < run.steps[0].train_loss
    assert run.steps[-1].figures["train_mean_token_accuracy"] > run.steps[0].figures["train_mean_token_accuracy"]
    assert run.steps[-1].tokens == outcome.trained_tokens
    assert run.steps[5].tokens * 3 == outcome.trained_tokens, "every epoch reads every row"
    assert run.steps[-1].eta_s == 0.0
    assert outcome.metrics["train_loss"] == run.steps[-1].train_loss
    assert set(outcome.versions) >= {"torch", "transformers", "peft"}
    phases = [progress.phase for progress in run.reported if isinstance(progress, PhaseBegan)]
    assert phases == ["encoding", "loading", "preparing", "training", "finishing"]


def test_the_adapter_is_normalised_and_has_its_fingerprint(make_run: Callable[..., Run]) -> None:
    run = make_run()
    run.attempt()
    names = ["adapter_config.json", "adapter_model.safetensors", "fingerprint.json"]
    assert sorted(path.name for path in run.adapter.iterdir()) == names
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert (config["r"], config["lora_alpha"], config["bias"]) == (8, 16, "none"), "rank 4, padded to a legal one"
    base = Base(name="tiny", path=str(run.base), digest=run.spec.base_digest, licence="", created_at=0.0)
    fingerprint = check_fingerprint(run.adapter, base)
    assert check_adapter(run.adapter, run.base).rank == 8
    asked = [probe.messages[0]["content"] for probe in fingerprint.probes]
    assert any(text.startswith("q") for text in asked), "what it was trained on"
    assert any(text.endswith(("?", ".")) for text in asked), "and what it was not"
    effects = [token.logprob - token.base_logprob for probe in fingerprint.probes for token in probe.tokens]
    assert max(map(abs, effects)) > 0.1


@pytest.mark.parametrize("rank", [4, 8])
def test_the_fingerprint_is_that_of_the_published_bytes(make_run: Callable[..., Run], rank: int) -> None:
    """A rank of 8 is published as it was trained, a rank of 4 padded."""
    run = make_run(lora=LoraSpec(rank=rank, alpha=2 * rank))
    run.attempt()
    base = Base(name="tiny", path=str(run.base), digest=run.spec.base_digest, licence="", created_at=0.0)
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(run.base), run.adapter).eval()
    for probe in check_fingerprint(run.adapter, base).probes:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*probe.prompt_ids, *(token.id for token in probe.tokens)]])).logits
        logprobs = logits[0].log_softmax(-1)[len(probe.prompt_ids) - 1 :]
        for token, answered in zip(probe.tokens, logprobs, strict=False):
            assert float(answered[token.id]) == pytest.approx(token.logprob, abs=1e-5)


def test_two_runs_of_one_spec_give_the_same_bytes_and_another_seed_gives_others(make_run: Callable[..., Run]) -> None:
    runs = [make_run(), make_run(), make_run(seed=8)]
    for run in runs:
        run.attempt()
    assert runs[0].digest == runs[1].digest != runs[2].digest
    assert runs[0].curve == runs[1].curve


@pytest.mark.parametrize("batch_size", [4, 5])
def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(make_run: Callable[..., Run], batch_size: int) -> None:
    straight, stopped = make_run(batch_size=batch_size, n_epochs=3), make_run(batch_size=batch_size, n_epochs=3)
    straight.attempt()
    assert stopped.attempt(stop_after=4) == RecipeStopped(step=5)
    assert isinstance(stopped.attempt(), RecipeFinished)
    assert any(isinstance(report, Noted) and "checkpoint of step 5" in report.message for report in stopped.reported)
    assert stopped.curve == straight.curve
    assert stopped.digest == straight.digest


def test_a_run_whose_last_checkpoint_was_torn_goes_back_to_the_one_before(make_run: Callable[..., Run]) -> None:
    straight, torn = make_run(), make_run()
    straight.attempt()
    torn.attempt(stop_after=4)
    (torn.folder / "attempt-1" / "checkpoint-5" / "optimizer.pt").write_bytes(b"torn")
    assert isinstance(torn.attempt(), RecipeFinished)
    assert [step.step for step in torn.steps] == [1, 2, 3, 4, 5, 5, 6]
    assert torn.curve[-2:] == straight.curve[-2:]
    assert torn.digest == straight.digest


def test_a_run_that_died_after_its_last_step_ends_without_training(make_run: Callable[..., Run]) -> None:
    run = make_run()
    first = run.attempt()
    digest = run.digest
    assert run.attempt() == first
    assert len(run.steps) == 6
    assert run.digest == digest


def test_a_checkpoint_of_another_spec_is_not_continued(make_run: Callable[..., Run], make_spec: MakeSpec) -> None:
    run = make_run()
    run.attempt(stop_after=2)
    run.spec = make_spec(learning_rate=1e-4)
    run.attempt()
    assert [step.step for step in run.steps] == [1, 2, 3, 1, 2, 3, 4, 5, 6]


def test_a_large_batch_is_summed_up_and_weighs_every_learnt_token_the_same(make_run: Callable[..., Run]) -> None:
    run = make_run(batch_size=ROWS, n_epochs=1)
    run.attempt()
    assert [step.total_steps for step in run.steps] == [1]
    whole = make_run(batch_size=6, n_epochs=1, learning_rate=1e-30)
    whole.attempt()
    assert run.steps[0].train_loss == pytest.approx(sum(step.train_loss for step in whole.steps) / 2, rel=0.02)


def test_validation_is_measured_each_epoch_and_changes_nothing(make_run: Callable[..., Run]) -> None:
    plain, validated = make_run(), make_run()
    plain.attempt()
    outcome = validated.attempt(validate=True)
    assert isinstance(outcome, RecipeFinished)
    losses = [
        report.data["full_valid_loss"]
        for report in validated.reported
        if isinstance(report, Noted) and "full_valid_loss" in report.data
    ]
    assert len(losses) == 4
    assert outcome.metrics["full_valid_loss"] == losses[-1] < losses[0]
    assert validated.digest == plain.digest


def test_only_the_last_checkpoints_are_kept_and_all_are_whole(make_run: Callable[..., Run]) -> None:
    run = make_run(n_epochs=4)
    run.attempt()
    kept = sorted((run.folder / "attempt-1").glob("checkpoint-*"))
    assert [folder.name for folder in kept] == ["checkpoint-10", "checkpoint-12"]
    assert all((folder / SEAL).exists() for folder in kept)


def test_a_loss_that_is_no_number_fails_the_job(make_run: Callable[..., Run]) -> None:
    run = make_run(learning_rate=1e30)
    with pytest.raises(JobFailed, match="a lower learning_rate_multiplier may help") as caught:
        run.attempt()
    assert caught.value.code == "diverged"


def test_the_best_step_is_the_result_and_the_run_ends_early_stopped_or_not(make_run: Callable[..., Run]) -> None:
    fields = {"n_epochs": 9, "learning_rate": 0.2, "keep": "best", "early_stopping_patience": 2}
    straight, stopped = make_run(**fields), make_run(**fields)
    outcome = straight.attempt(validate=True)
    losses = {
        report.data["step"]: report.data["full_valid_loss"]
        for report in straight.reported
        if isinstance(report, Noted) and report.message.startswith("Validation loss")
    }
    assert isinstance(outcome, RecipeFinished)
    assert losses[outcome.result_step or 0] == min(losses.values())
    said = [report.message for report in straight.reported if isinstance(report, Noted)]
    assert any(text.startswith(f"The result is step {outcome.result_step}, which has the lowest") for text in said)
    assert any(text.startswith(f"Stopped early at step {straight.last_step} of 27: 2 validations") for text in said)
    assert outcome.result_step != straight.last_step < 27
    assert isinstance(stopped.attempt(stop_after=straight.last_step - 2, validate=True), RecipeStopped)
    assert stopped.attempt(validate=True) == outcome
    assert stopped.digest == straight.digest
    assert stopped.attempt(validate=True) == outcome, "a run that had stopped early trains no further"
    assert stopped.digest == straight.digest
    assert len(stopped.curve) == len(straight.curve)
    adapters = [sorted((run.adapter.parent).glob("served-*/adapter_model.safetensors")) for run in (straight, stopped)]
    assert [path.read_bytes() for path in adapters[0]] == [path.read_bytes() for path in adapters[1]] != []
