"""`lorry train`: upload a training file and start a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli.client import Client
from gateway.cli.errors import CommandFailed
from gateway.cli.job_progress import follow_job
from gateway.cli.jobs import show_job
from gateway.cli.output import JsonFlag, note
from gateway.cli.rollout.plans import EveryFlag, GuardrailFlag, JudgeFlag, MinSamplesFlag, plan_body
from gateway.objects.files import FileObject
from gateway.objects.jobs import FineTuningJob, JobObject
from gateway.objects.lists import ObjectList
from gateway.objects.models import ModelObject

app = typer.Typer(name="train", no_args_is_help=True)

_Parser = Callable[[str], Any]


def _switch(text: str) -> bool:
    """Return whether a switch is on; `ValueError` for another word than true and false."""
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


_OPENAI: Final[Mapping[str, _Parser]] = {"n_epochs": int, "batch_size": int, "learning_rate_multiplier": float}
_OURS: Final[Mapping[str, _Parser]] = {
    "learning_rate": float,
    "warmup_ratio": float,
    "max_length": int,
    "checkpoint_steps": int,
    "lora_rank": int,
    "lora_alpha": int,
    "lora_dropout": float,
    "target_modules": lambda text: text.split(","),
    "weights": str,
    "lora_variant": str,
    "lora_plus_ratio": float,
    "merge": _switch,
    "optimizer": str,
    "optimizer_rank": int,
    "optimizer_interval": int,
    "optimizer_scale": float,
    "gradient_checkpointing": _switch,
    "micro_batch_size": int,
    "precision": str,
}


@app.command("sft")
def sft(
    data: Annotated[Path, typer.Option("--data", help="JSONL file, one chat a line.")],
    name: Annotated[str, typer.Option("--name", help="Adapter whose next revision the job publishes.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Base model; needed only where there are several.")
    ] = None,
    validation: Annotated[Path | None, typer.Option("--validation", help="JSONL file for the validation loss.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Hyperparameter as KEY=VALUE; repeat it.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same bytes.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Stay and show the progress.")] = False,
    rollout: Annotated[
        str | None, typer.Option("--rollout", help="Roll out when published, for example 5,25,100.")
    ] = None,
    every: EveryFlag = None,
    guardrail: GuardrailFlag = None,
    min_samples: MinSamplesFlag = None,
    judge: JudgeFlag = True,
    as_json: JsonFlag = False,
) -> None:
    """Fine-tune (supervised) on the assistant's answers of the chats in a file, with LoRA unless weights=full."""
    hyperparameters = parse_settings(settings or [])
    body: dict[str, Any] = {
        "suffix": name,
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
    }
    if seed is not None:
        body["seed"] = seed
    if rollout is not None:
        body["rollout"] = plan_body(
            {},
            steps=rollout,
            every=every,
            guardrails=guardrail,
            min_samples=min_samples,
            judge=judge,
            shadow_judge=None,
        )
    with Client() as client:
        body["model"] = model or _only_base(client)
        body["training_file"] = _upload(client, data)
        if validation is not None:
            body["validation_file"] = _upload(client, validation)
        job: JobObject = client.post("/v1/fine_tuning/jobs", FineTuningJob, body)
        if job.lorry.adapter != name:
            note(f"The adapter is named {job.lorry.adapter}, because {name!r} cannot be part of a name.")
        if follow:
            note(f"Job {job.id} is queued; Ctrl-C leaves it running.")
            job = follow_job(client, job.id)
    show_job(job, as_json)
    if job.error is not None:
        raise CommandFailed(f"the job failed: {job.error.message}")


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Return {"n_epochs": 2} for ["n_epochs=2"]; exit code 2 names an unknown key or a value of the wrong kind."""
    parsers = {**_OPENAI, **_OURS}
    parsed: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or key not in parsers:
            raise typer.BadParameter(f"--set {pair!r}: write KEY=VALUE with KEY one of {', '.join(parsers)}")
        if text == "auto" and key in _OPENAI:
            parsed[key] = text
            continue
        try:
            parsed[key] = parsers[key](text)
        except ValueError as exc:
            raise typer.BadParameter(f"--set {pair!r}: {text!r} is not a value of the right kind") from exc
    return parsed


def _only_base(client: Client) -> str:
    bases = [model.id for model in client.get("/v1/models", ObjectList[ModelObject]).data if model.lorry.kind == "base"]
    if len(bases) != 1:
        raise CommandFailed(f"name the base model with --model: {', '.join(bases) or 'there is none yet'}")
    return bases[0]


def _upload(client: Client, path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise CommandFailed(f"{path}: {exc.strerror}") from exc
    return client.upload("/v1/files", FileObject, path.name, content, purpose="fine-tune").id
