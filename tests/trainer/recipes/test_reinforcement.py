"""Methods that learn from rewards raise them, and give the same bytes for the same spec, stopped or not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.contracts.job_spec import LoraSpec
from registry.contracts.methods.sampling_options import SamplingSpec
from registry.errors import TrainingFileInvalid
from tests.trainer.tiny_base import save_base
from trainer.data.dataset import ChatEncoder
from trainer.errors import JobFailed
from trainer.order import ChildOrder
from trainer.progress import CheckpointSaved, Noted, Progress, RecipeFinished, RecipeStopped, Stepped
from trainer.recipes import load_recipe
from trainer.training.base_model import load_base
from trainer.training.reward_model import replace_head, save_head

pytestmark = [pytest.mark.trains, pytest.mark.filterwarnings("ignore:Could not find a config file")]

SMALL_LETTERS = "def grade(sample, item):\n    return sum(each.islower() for each in sample['output_text']) / 8\n"
LETTERS: Mapping[str, Any] = {"type": "python", "name": "letters", "source": SMALL_LETTERS}
FIELDS: Mapping[str, Any] = {
    "base": "tiny",
    "adapter": "support",
    "training_file": "file-1",
    "n_epochs": 2,
    "batch_size": 4,
    "learning_rate": 3e-2,
    "checkpoint_steps": 2,
    "seed": 7,
    "lora": LoraSpec(rank=4, alpha=8),
    "grader": LETTERS,
    "group_size": 4,
    "max_completion_tokens": 8,
    "beta": 0.01,
    "iterations": 1,
}


class PromptRun:
    """A job folder in which attempts are made on prompts."""

    def __init__(self, folder: Path, base: Path, spec: SamplingSpec) -> None:
        self.folder = folder
        self.base = base
        self.spec = spec
        self.reported: list[Progress] = []
        self.attempts = 0
        self.inputs: dict[str, Path] = {}

    def attempt(self, stop_after: int | None = None, validate: bool = False) -> RecipeFinished | RecipeStopped:
        """Train until the end, or until *stop_after* steps are done."""
        self.attempts += 1
        attempt_folder = self.folder / f"attempt-{self.attempts}"
        attempt_folder.mkdir(parents=True)
        prompts = self.folder / "prompts.jsonl"
        rows = [{"messages": [{"role": "user", "content": f"q{at}" * (at % 3 + 1)}], "answer": "e"} for at in range(10)]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        order = ChildOrder[SamplingSpec](
            spec=self.spec,
            base_path=self.base,
            inputs={"training_file": prompts, **({"validation_file": prompts} if validate else {}), **self.inputs},
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
    def rewards(self) -> list[float]:
        return [step.figures["train_mean_reward"] for step in self.steps]

    @property
    def last_step(self) -> int:
        saved = [progress.step for progress in self.reported if isinstance(progress, CheckpointSaved | Stepped)]
        return max(saved, default=0)

    @property
    def digest(self) -> str:
        weights = self.folder / f"attempt-{self.attempts}" / "final" / "adapter_model.safetensors"
        return sha256(weights.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def loud_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with a louder head: with its own one every token is about as likely, whatever an adapter does."""
    folder = tmp_path_factory.mktemp("loud")
    save_base(folder)
    weights = load_file(folder / "model.safetensors")
    save_file(
        weights | {"lm_head.weight": 30 * weights["lm_head.weight"]}, folder / "model.safetensors", {"format": "pt"}
    )
    return folder


MakeRun = Callable[..., PromptRun]


@pytest.fixture
def make_run(tmp_path: Path, loud_base: Path) -> MakeRun:
    made: list[PromptRun] = []

    def make(method: str = "reinforcement", **fields: object) -> PromptRun:
        kind = FINE_TUNING_METHODS[method]
        assert issubclass(kind, SamplingSpec)
        given: dict[str, Any] = {**FIELDS, **fields}
        spec = kind(base_digest="0" * 64, **given)
        made.append(PromptRun(tmp_path / f"job-{len(made)}", loud_base, spec))
        return made[-1]

    return make


METHODS: Mapping[str, Mapping[str, Any]] = {
    "grpo": {},
    "grpo by outputs, twice": {"loss_type": "grpo", "iterations": 2, "scale_rewards": "none", "beta": 0},
    "rloo": {"algorithm": "rloo"},
    "ppo": {"method": "ppo", "iterations": 2, "learning_rate": 1e-2},
}


@pytest.mark.parametrize("fields", METHODS.values(), ids=METHODS)
def test_the_reward_rises(make_run: MakeRun, fields: Mapping[str, Any]) -> None:
    run = make_run(n_epochs=4, **fields)
    outcome = run.attempt()
    assert isinstance(outcome, RecipeFinished)
    assert sum(run.rewards[-3:]) > 1.3 * sum(run.rewards[:3])
    figures = {"train_mean_reward", "reward_deviation", "completion_tokens", "ended"}
    assert all(figures <= step.figures.keys() for step in run.steps)
    assert ("kl" in run.steps[-1].figures) == bool(run.spec.beta)


@pytest.mark.parametrize(("method", "stopped_at"), [("reinforcement", 1), ("reinforcement", 2), ("ppo", 3)])
def test_a_stopped_run_ends_with_the_bytes_of_one_that_was_not(make_run: MakeRun, method: str, stopped_at: int) -> None:
    fields = {"iterations": 2, "n_epochs": 1, "lora": LoraSpec(rank=4, alpha=8, dropout=0.1)}
    whole, stopped = make_run(method, **fields), make_run(method, **fields)
    whole.attempt()
    assert isinstance(stopped.attempt(stop_after=stopped_at), RecipeStopped)
    stopped.attempt()
    assert whole.digest == stopped.digest
    assert whole.rewards == stopped.rewards


@pytest.mark.parametrize("fields", [{"method": "ppo"}, {"algorithm": "rloo"}, {"algorithm": "grpo"}])
def test_without_a_distance_to_the_base_model_outputs_are_kept_in_checkpoints(
    make_run: MakeRun, fields: Mapping[str, Any]
) -> None:
    run = make_run(**fields, beta=0.0, iterations=2, n_epochs=1, checkpoint_steps=1)
    assert isinstance(run.attempt(), RecipeFinished)


def test_trained_tokens_are_those_of_prompts_and_outputs(make_run: MakeRun, loud_base: Path) -> None:
    run = make_run(n_epochs=1)
    outcome = run.attempt()
    encoder = ChatEncoder(loud_base)
    prompts = [[{"role": "user", "content": f"q{at}" * (at % 3 + 1)}] for at in range(10)]
    of_prompts = sum(len(encoder.open_answer(prompt)) for prompt in prompts)
    sampled = [
        step.figures["completion_tokens"] * outputs for step, outputs in zip(run.steps, (16, 16, 8), strict=True)
    ]
    assert isinstance(outcome, RecipeFinished)
    assert outcome.trained_tokens == run.steps[-1].tokens == 4 * of_prompts + sum(sampled)


def test_another_seed_samples_other_outputs(make_run: MakeRun) -> None:
    runs = [make_run(n_epochs=1), make_run(n_epochs=1, seed=8)]
    for run in runs:
        run.attempt()
    assert runs[0].digest != runs[1].digest


def test_the_validation_file_is_rewarded_at_each_interval(make_run: MakeRun) -> None:
    run = make_run(n_epochs=1, eval_interval=2, eval_samples=2)
    run.attempt(validate=True)
    measured = [noted.data for noted in run.reported if isinstance(noted, Noted) and "full_valid_loss" in noted.data]
    assert [data["step"] for data in measured] == [2]
    assert measured[0]["full_valid_loss"] == -measured[0]["full_valid_mean_reward"] < 0


def test_the_parts_of_a_multi_grader_are_reported_each(make_run: MakeRun) -> None:
    answer = {"type": "string_check", "name": "x", "input": "{{sample.output_text}}", "reference": "{{item.answer}}"}
    graders = {"letters": LETTERS, "answer": answer | {"operation": "like"}}
    grader = {"type": "multi", "name": "both", "graders": graders, "calculate_output": "letters + 2 * answer"}
    run = make_run(n_epochs=1, grader=grader)
    run.attempt()
    figures = run.steps[0].figures
    expected = figures["train_mean_reward_letters"] + 2 * figures["train_mean_reward_answer"]
    assert figures["train_mean_reward"] == pytest.approx(expected)


def test_a_reward_model_of_ours_gives_the_rewards(make_run: MakeRun, loud_base: Path, tmp_path: Path) -> None:
    base = load_base(loud_base)
    head = replace_head(base)
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(1))
    scorer = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"]))
    scorer.save_pretrained(tmp_path / "helpful", save_embedding_layers=False)
    save_head(head.weight, tmp_path / "helpful")
    run = make_run(grader={"type": "reward_model", "model": "helpful@1"}, n_epochs=4, learning_rate=1e-2)
    run.inputs["reward_artifacts/helpful@1"] = tmp_path / "helpful"
    run.attempt()
    assert sum(run.rewards[-3:]) > sum(run.rewards[:3]) + 0.1, run.rewards


def python(body: str) -> Mapping[str, Any]:
    return {"type": "python", "name": "broken", "source": f"def grade(sample, item):\n    {body}\n"}


@pytest.mark.parametrize(
    ("grader", "said"),
    [
        (python("return 1 / 0"), "failed 10 times in a row, the last time: python_grader_runtime_error: ZeroDivision"),
        (python("import os; os.fork()"), "not permitted"),
        (python("open('/usr/x', 'w')"), "Read-only file system"),
        ({**LETTERS, "source": "x = 1"}, "the grader letters source: the source defines no function grade"),
    ],
)
def test_a_grader_that_fails_again_and_again_fails_the_job_by_its_name(
    make_run: MakeRun, grader: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(JobFailed) as failed:
        make_run(grader=grader).attempt()
    assert (failed.value.code, said in failed.value.message) == ("grader_failed", True), failed.value.message


def test_a_single_failure_counts_as_reward_0_and_is_warned_of(make_run: MakeRun) -> None:
    run = make_run(
        grader=python("return sample['output_text'].count('a') / (item['messages'][0]['content'] != 'q0')"), n_epochs=1
    )
    run.attempt()
    warned = [noted.message for noted in run.reported if isinstance(noted, Noted) and noted.level == "warn"]
    assert "gave no grade to 4 of 16 outputs of step" in warned[0]
    assert "ZeroDivisionError" in warned[0]


def test_a_field_that_a_line_lacks_is_refused_before_anything_is_sampled(make_run: MakeRun) -> None:
    grader = {"type": "string_check", "name": "x", "input": "{{item.key}}", "reference": "x", "operation": "eq"}
    with pytest.raises(TrainingFileInvalid, match="line 1: has no field 'key', which the grader reads"):
        make_run(grader=grader).attempt()
