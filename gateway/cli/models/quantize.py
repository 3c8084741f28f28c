"""`lorry quantize`: make a smaller checkpoint of a model, scored against it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli.client import Client
from gateway.cli.completion import names
from gateway.cli.errors import CommandFailed
from gateway.cli.following.job_progress import follow_job
from gateway.cli.models.load_test_rows import TRIED, tried_row
from gateway.cli.output import Column, JsonFlag, note, show_fields, show_json, show_table
from gateway.cli.short_ids import revision_of_digest, whole_id
from gateway.cli.train import upload_rows
from gateway.objects.weights.quantizations import QuantizationObject
from registry.contracts.quantizations.load_test_result import LOAD_TEST
from registry.contracts.quantizations.quantization_report import QuantizationReport
from registry.contracts.quantizations.schemes import Scheme

app = typer.Typer()

_FLAGS: Final = {
    "model": "MODEL",
    "calibration_file": "--calibration",
    "scheme": "--scheme",
    "use": "--use",
    "pools": "--for",
    "name": "--name",
    "group_size": "--group-size",
    "samples": "--samples",
    "max_length": "--max-length",
    "seed": "--seed",
    "max_rise": "--max-rise",
    "waive": "--waive",
}
"""Field of the request -> its flag."""
_REFUSALS: Final = {
    "quality_gate": "The gate refused the checkpoint",
    "load_test_failed": "An engine of the pools did not serve the checkpoint",
}
"""Code of a failed job -> what refused the checkpoint."""
_COLUMNS: Final = (Column("TEXT"), Column("TOKENS"), Column("BEFORE"), Column("AFTER"), Column("RISE"), Column("GATE"))


class SchemeName(StrEnum):
    """A scheme, or the choice of one."""

    AUTO = "auto"
    W4A16_GPTQ = Scheme.W4A16_GPTQ.value
    W4A16_AWQ = Scheme.W4A16_AWQ.value
    W8A8_INT8 = Scheme.W8A8_INT8.value
    FP8 = Scheme.FP8.value
    GGUF_Q4 = Scheme.GGUF_Q4.value
    GGUF_Q8 = Scheme.GGUF_Q8.value


class WaivedName(StrEnum):
    """A text whose perplexity is judged, or the load test on the engines of pools."""

    ENGLISH = "english"
    CHINESE = "chinese"
    CALIBRATION = "calibration"
    LOAD_TEST = LOAD_TEST


class UseName(StrEnum):
    """The use that `auto` chooses for."""

    ONLINE = "online"
    BATCH = "batch"


ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A revision (support@7), a base model or a checkpoint; or a job id quantjob-... to show its scores.",
        autocompletion=names.models,
    ),
]
CalibrationFlag = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="JSONL file of chats, or of prompts with completions, as for lorry train sft."),
]
FileFlag = Annotated[
    str | None, typer.Option("--file", metavar="ID", help="Id of an uploaded file, in place of --calibration.")
]
SchemeFlag = Annotated[SchemeName, typer.Option(help="auto chooses by --use, --for and hardware.")]
UseFlag = Annotated[UseName, typer.Option(help="How requests come, for --scheme auto.")]
PoolsFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--for", metavar="POOL", help="A pool that is to serve the result, which is tried on its engine; repeatable."
    ),
]
NameFlag = Annotated[
    str | None, typer.Option(metavar="NAME", help="First part of the checkpoint's name; model and scheme if left out.")
]
GroupFlag = Annotated[int | None, typer.Option(help="Weights that share a scale: 128, 64 or 32.")]
SamplesFlag = Annotated[int | None, typer.Option(help="Rows that calibrate (default: 128, or what there is).")]
LengthFlag = Annotated[int | None, typer.Option(help="Tokens at which a row is cut (default: 512).")]
SeedFlag = Annotated[int | None, typer.Option(help="Seed of the draw of rows (default: a random one).")]
RiseFlag = Annotated[
    float | None, typer.Option(help="Largest rise of perplexity that the gate lets pass (default: 0.05).")
]
WaiveFlag = Annotated[
    list[WaivedName] | None,
    typer.Option(help="A text whose rise, or the load test whose answers are not judged; repeat it for others."),
]


@app.command("quantize")
def quantize(
    model: ModelArgument,
    calibration: CalibrationFlag = None,
    file: FileFlag = None,
    scheme: SchemeFlag = SchemeName.AUTO,
    use: UseFlag = UseName.ONLINE,
    pools: PoolsFlag = None,
    name: NameFlag = None,
    group_size: GroupFlag = None,
    samples: SamplesFlag = None,
    max_length: LengthFlag = None,
    seed: SeedFlag = None,
    max_rise: RiseFlag = None,
    waive: WaiveFlag = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end and show progress.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Quantize a model, an adapter merged into it first. The result is a checkpoint, unless its scores are too bad.

    Perplexity on an English and a Chinese text and on rows of the file is measured before and after. Exit code 3 where
    the gate refuses the result. With --for it is then started on the engines of these pools, and its answers compared.
    """
    with Client(flags=_FLAGS) as client:
        if model.startswith("quantjob-"):
            job = client.get(f"/admin/quantizations/{whole_id(client, 'job', model)}", QuantizationObject)
        else:
            asked: dict[str, Any] = {
                "model": revision_of_digest(client, model) or model,
                "calibration_file": _file_id(client, calibration, file),
                "scheme": scheme.value,
                "use": use.value,
                "pools": pools,
                "name": name,
                "group_size": group_size,
                "samples": samples,
                "max_length": max_length,
                "seed": seed,
                "max_rise": max_rise,
                "waive": [each.value for each in waive or ()],
            }
            job = _queued(client, asked)
        if follow and not job.status.is_terminal:
            follow_job(client, job.id)
            job = client.get(f"/admin/quantizations/{job.id}", QuantizationObject)
    _end(job, as_json)


def _queued(client: Client, asked: Mapping[str, Any]) -> QuantizationObject:
    body = {field: value for field, value in asked.items() if value is not None and value != []}
    job = client.post("/admin/quantizations", QuantizationObject, body)
    note(f"Job {job.id} is queued; Ctrl-C leaves it running.")
    return job


def _file_id(client: Client, calibration: Path | None, file: str | None) -> str:
    if (calibration is None) is (file is None):
        raise typer.BadParameter("give the rows that calibrate: either --calibration FILE or --file ID")
    return upload_rows(client, calibration) if calibration is not None else whole_id(client, "file", str(file))


def _end(job: QuantizationObject, as_json: bool) -> None:
    if as_json:
        show_json(job)
    else:
        _show(job)
    if job.error is None:
        return
    if job.error.code in _REFUSALS:
        note(f"{_REFUSALS[job.error.code]}; nothing was published.")
        raise typer.Exit(3)
    raise CommandFailed(f"{job.model} could not be quantized: {job.error.message}")


def _show(job: QuantizationObject) -> None:
    show_fields(
        [
            ("job", job.id),
            ("model", job.model),
            ("scheme", job.scheme),
            ("chosen", job.chosen_because and f"because {job.chosen_because}"),
            ("group size", job.group_size),
            ("samples", job.samples),
            ("for", ", ".join(job.pools) or None),
            ("served here by", ", ".join(kind for kind, why in job.engines.items() if why is None) or "no engine"),
            ("state", job.status),
            ("checkpoint", job.checkpoint),
            *([] if job.report is None else _fields(job.report)),
        ]
    )
    if job.report is not None:
        show_table(_COLUMNS, _rows(job.report), "No texts.")
        if job.report.load_tests:
            show_table(TRIED, map(tried_row, job.report.load_tests.values()), "No kind of engine.")


def _fields(report: QuantizationReport) -> list[tuple[str, str]]:
    linear = "" if report.linear_bits_per_weight is None else f" ({report.linear_bits_per_weight:.2f} in linear layers)"
    return [
        ("size", f"{report.size_bytes / 1e6:.1f} MB, from {report.base_size_bytes / 1e6:.1f} MB"),
        ("bits per weight", f"{report.bits_per_weight:.2f}{linear}"),
        (
            "agreement",
            f"{report.agreement:.1%} of {report.answer_tokens} tokens of {report.prompts} greedy answers, "
            f"{report.same_answers:.0%} of the answers as a whole",
        ),
    ]


def _rows(report: QuantizationReport) -> list[tuple[str, str, str, str, str, str]]:
    found = []
    for name, each in report.perplexity.items():
        verdict = "refused" if name in report.gate.refused else "waived" if name in report.gate.waived else "passed"
        tokens = str(report.scored_tokens[name])
        found.append((name, tokens, f"{each.before:.2f}", f"{each.after:.2f}", f"{each.rise:+.1%}", verdict))
    return found
