"""`lorry train`: upload a training file and start a job."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli.client import Client
from gateway.cli.completion.arguments import BaseFlag, PublishedName
from gateway.cli.errors import CommandFailed
from gateway.cli.following.job_progress import expected_text, follow_job
from gateway.cli.jobs import show_job
from gateway.cli.output import JsonFlag, note
from gateway.cli.rollout.gate_flags import GateFlag, GateMarginFlag, GateMinFlag, gate_of, with_stored_suite
from gateway.cli.rollout.plans import PLAN_FLAGS, EveryFlag, GuardrailFlag, JudgeFlag, MinSamplesFlag, plan_body
from gateway.cli.short_ids import whole_id
from gateway.cli.training.graders import read_json
from gateway.objects.files import FileObject
from gateway.objects.jobs import FineTuningJob, JobObject
from gateway.objects.lists import ObjectList
from gateway.objects.models import ModelObject
from registry.states import Priority
from registry.wording.suggestions import meant_or_known

app = typer.Typer(name="train", no_args_is_help=True)

_Parser = Callable[[str], Any]


def _switch(text: str) -> bool:
    """Return whether a switch is on; `ValueError` for another word than true and false."""
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def _number(text: str) -> float:
    """Return the number; `ValueError` for what JSON cannot express either: NaN and infinity."""
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


_OPENAI: Final[Mapping[str, _Parser]] = {"n_epochs": int, "batch_size": int, "learning_rate_multiplier": _number}
_OURS: Final[Mapping[str, _Parser]] = {
    "learning_rate": _number,
    "warmup_ratio": _number,
    "max_length": int,
    "unfit_rows": str,
    "most_unfit_rows": _number,
    "checkpoint_steps": int,
    "keep": str,
    "early_stopping_patience": int,
    "serve_checkpoints": str,
    "lora_rank": int,
    "lora_alpha": int,
    "lora_dropout": _number,
    "target_modules": lambda text: text.split(","),
    "weights": str,
    "lora_variant": str,
    "lora_plus_ratio": _number,
    "merge": _switch,
    "optimizer": str,
    "optimizer_rank": int,
    "optimizer_interval": int,
    "optimizer_scale": _number,
    "gradient_checkpointing": _switch,
    "micro_batch_size": int,
    "precision": str,
    "beta": _number,
    "loss_type": str,
    "label_smoothing": _number,
    "gamma": _number,
    "desirable_weight": _number,
    "undesirable_weight": _number,
    "processes": int,
    "parallelism": str,
    "group_size": int,
    "max_completion_tokens": int,
    "temperature": _number,
    "epsilon": _number,
    "iterations": int,
    "eval_interval": int,
    "eval_samples": int,
    "compute_multiplier": _number,
    "algorithm": str,
    "scale_rewards": str,
    "gae_lambda": _number,
    "value_clip": _number,
    "value_weight": _number,
}
_FLAGS: Final[Mapping[str, str]] = {
    "model": "--model",
    "validation_file": "--validation",
    "suffix": "--name",
    "adapter": "--name",
    "seed": "--seed",
    "priority": "--priority",
    "owner": "--owner",
    "after": "--after",
    "rollout.steps": "--rollout",
    "rollout": "--rollout",
    **{f"rollout.{field}": flag for field, flag in PLAN_FLAGS.items() if field != "steps"},
}
"""Field of the request -> its flag."""
_WANTED: Final[Mapping[_Parser, str]] = {int: "a whole number", _number: "a number", _switch: "true or false"}
"""Parser that can fail -> what it parses."""
_MAY_BE_AUTO: Final = (*_OPENAI, "beta", "eval_interval", "eval_samples", "compute_multiplier")
METHODS: Final[Mapping[str, tuple[str, str]]] = {
    "sft": ("supervised", "Learn the assistant's answers of chats, with LoRA unless weights=full."),
    "dpo": ("dpo", "Learn which of two answers is preferred, by the log ratios to the base model."),
    "kto": ("kto", "Learn from single answers that are good or bad."),
    "orpo": ("orpo", "Learn the preferred answers, and to prefer them, without a reference."),
    "simpo": ("simpo", "Learn which of two answers is preferred, by the mean logprob of a token."),
    "reward": ("reward", "Train a reward model on pairs of answers."),
    "reinforcement": ("reinforcement", "Sample answers and learn what a grader rewards, by GRPO or RLOO."),
    "ppo": ("ppo", "Sample answers and learn what a grader rewards, with a value head."),
}
"""Command -> method of the job, and what the command does."""
GRADED: Final = ("reinforcement", "ppo")
"""Methods that need a grader."""


DataFlag = Annotated[Path | None, typer.Option("--data", metavar="FILE", help="JSONL file, one example a line.")]
FileFlag = Annotated[
    str | None, typer.Option("--file", metavar="ID", help="Id of an uploaded file, in place of --data.")
]
ValidationFlag = Annotated[
    Path | None, typer.Option("--validation", metavar="FILE", help="JSONL file for the validation loss.")
]
SetFlag = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Hyperparameter; repeat it for others.")
]
GraderFlag = Annotated[
    Path | None,
    typer.Option("--grader", metavar="FILE", help="JSON file with the grader; reinforcement and ppo need one."),
]
PriorityFlag = Annotated[
    Priority | None, typer.Option(help="How the job waits for a worker; your key's own if left out.")
]
AfterFlag = Annotated[
    list[str] | None,
    typer.Option("--after", metavar="JOB", help="Begin once this job has succeeded; repeat it for others."),
]
OwnerFlag = Annotated[
    str | None, typer.Option(metavar="TENANT", help="Tenant that the job is for; needs an admin key.")
]
RolloutFlag = Annotated[
    str | None,
    typer.Option("--rollout", metavar="STEPS", help="Roll it out in these steps, for example 5,25,100."),
]


def train(
    context: typer.Context,
    name: PublishedName,
    data: DataFlag = None,
    file: FileFlag = None,
    model: BaseFlag = None,
    validation: ValidationFlag = None,
    settings: SetFlag = None,
    grader: GraderFlag = None,
    seed: Annotated[int | None, typer.Option(help="Random seed; the same seed gives the same bytes.")] = None,
    priority: PriorityFlag = None,
    owner: OwnerFlag = None,
    after: AfterFlag = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end and show progress.")] = False,
    rollout: RolloutFlag = None,
    every: EveryFlag = None,
    guardrail: GuardrailFlag = None,
    min_samples: MinSamplesFlag = None,
    judge: JudgeFlag = True,
    gate: GateFlag = None,
    gate_min: GateMinFlag = None,
    gate_margin: GateMarginFlag = None,
    as_json: JsonFlag = False,
) -> None:
    method, _ = METHODS[str(context.info_name)]
    if (data is None) == (file is None):
        raise typer.BadParameter("give --data FILE, or --file ID of a file that was uploaded")
    options = {"hyperparameters": parse_settings(settings or []), **_graded(method, grader)}
    body: dict[str, Any] = {"suffix": name, "method": {"type": method, method: options}}
    given: dict[str, Any] = {"seed": seed, "priority": priority, "owner": owner}
    body |= {field: value for field, value in given.items() if value is not None}
    body |= _rollout_field(rollout, every, guardrail, min_samples, judge, gate_of(gate, gate_min, gate_margin))
    flags = {**_FLAGS, "training_file": "--file" if data is None else "--data"}
    with Client(flags=flags) as client:
        if "rollout" in body:
            body["rollout"] = with_stored_suite(client, body["rollout"])
        body["model"] = model or _only_base(client)
        body["training_file"] = whole_id(client, "file", str(file)) if data is None else upload_rows(client, data)
        if after:
            body["after"] = [whole_id(client, "job", each) for each in after]
        if validation is not None:
            body["validation_file"] = upload_rows(client, validation)
        job: JobObject = client.post("/v1/fine_tuning/jobs", FineTuningJob, body)
        if job.lorry.adapter != name:
            note(f"The adapter is named {job.lorry.adapter}, because {name!r} cannot be part of a name.")
        if follow:
            note(f"Job {job.id} is queued; Ctrl-C leaves it running.")
            note(expected_text(job.lorry.estimate))
            job = follow_job(client, job.id)
    show_job(job, as_json)
    if job.error is not None:
        raise CommandFailed(f"the job failed: {job.error.message}")


def _rollout_field(
    rollout: str | None,
    every: str | None,
    guardrails: list[str] | None,
    min_samples: int | None,
    judge: bool,
    gate: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the field of the request for the rollout that follows the job; nothing without one."""
    if rollout is None:
        if gate is not None:
            raise typer.BadParameter("--gate needs --rollout STEPS")
        return {}
    plan = plan_body(
        {},
        steps=rollout,
        every=every,
        guardrails=guardrails,
        min_samples=min_samples,
        judge=judge,
        shadow_judge=None,
        gate=gate,
    )
    return {"rollout": plan}


for _command, (_, _does) in METHODS.items():
    app.command(_command, help=_does)(train)


def _graded(method: str, grader: Path | None) -> dict[str, Any]:
    """Return the grader of the method, which some methods need and others do not take."""
    if (grader is None) is (method in GRADED):
        wants = (
            "needs --grader FILE, a JSON file" if grader is None else f"takes no --grader; {' and '.join(GRADED)} do"
        )
        raise typer.BadParameter(f"the method {method} {wants}")
    return {} if grader is None else {"grader": read_json(grader)}


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Return {"n_epochs": 2} for ["n_epochs=2"]; exit code 2 names an unknown key or a value of the wrong kind."""
    parsers = {**_OPENAI, **_OURS}
    parsed: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set {pair!r}: write OPTION=VALUE, for example n_epochs=2")
        if key not in parsers:
            raise typer.BadParameter(f"--set {pair!r}: unknown option {key!r}{meant_or_known(key, parsers)}")
        if text == "auto" and key in _MAY_BE_AUTO:
            parsed[key] = text
            continue
        try:
            parsed[key] = parsers[key](text)
        except ValueError as exc:
            wanted = _WANTED[parsers[key]] + (" or auto" if key in _MAY_BE_AUTO else "")
            raise typer.BadParameter(f"--set {key}: must be {wanted}, not {text!r}") from exc
    return parsed


def _only_base(client: Client) -> str:
    models = client.get("/v1/models", ObjectList[ModelObject]).data
    # Whole models that jobs made stand on another one, and models that embed or rank texts are not fine-tuned.
    bases = [
        model.id
        for model in models
        if model.lorry.kind == "base"
        and model.lorry.base_name is None
        and ("/v1/completions" in model.lorry.paths or not model.lorry.paths)
    ]
    if len(bases) != 1:
        raise CommandFailed(f"name the base model with --model: {', '.join(bases) or 'there is none yet'}")
    return bases[0]


def upload_rows(client: Client, path: Path) -> str:
    """Upload a file of rows and return its id."""
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise CommandFailed(f"{path}: {exc.strerror}") from exc
    return client.upload("/v1/files", FileObject, path.name, content, purpose="fine-tune").id
