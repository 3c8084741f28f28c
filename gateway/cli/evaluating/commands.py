"""`lorry eval`: ask a suite of a model, list, show, compare, resume, cancel, delete."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli.client import Client, part
from gateway.cli.completion.arguments import ModelName
from gateway.cli.errors import CommandFailed
from gateway.cli.evaluating.group import EvalGroup
from gateway.cli.evaluating.shown import show_answers, show_comparison, show_list, show_story
from gateway.cli.following.live_line import LiveLine
from gateway.cli.output import Column, JsonFlag, WideFlag, note, show, show_json, show_table, stderr_console
from gateway.cli.short_ids import whole_id
from gateway.objects.evaluating.evaluations import (
    AnswerObject,
    ComparisonObject,
    DeletedEvaluation,
    EvaluationObject,
    EvaluationStory,
    SuiteObject,
)
from gateway.objects.lists import ObjectList
from registry.evaluations.evaluation import LORRY
from registry.evaluations.evaluation_state import EvaluationState

app = typer.Typer(name="eval", no_args_is_help=True, cls=EvalGroup)

PATH: Final = "/admin/evaluations"
FLAGS: Final = {
    "model": "MODEL",
    "suite": "--suite",
    "limit": "--limit",
    "concurrency": "--concurrency",
    "timeout_s": "--timeout",
}
"""Field of a request -> its flag."""
_POLL_S: Final = 0.5
_SUITES: Final = (Column("SUITE"), Column("ROWS"), Column("DIGEST", 2), Column("DESCRIPTION", below=True))

SuiteFlag = Annotated[
    str,
    typer.Option(
        "--suite",
        metavar="SUITE",
        help="A file (.jsonl, .toml, .json), builtin:NAME, a stored suite's digest, evalscope:BENCH,... or "
        "lm-eval:TASK,...",
    ),
]
LocalFlag = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder of this machine with the tasks (lm-eval: YAML) or data (EvalScope) of the tool."
    ),
]
TokenizerFlag = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Tokenizer for tasks of lm-eval that rank choices by log-likelihood."),
]
HtmlFlag = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the report as one HTML page too.")]
EvaluationId = Annotated[str, typer.Argument(metavar="EVALUATION", help="Its id, or the beginning of it.")]


@app.command("run")
def run(
    model: ModelName,
    suite: SuiteFlag,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask the first rows only.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Rows that are asked at a time.")] = 4,
    timeout: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Time for the whole evaluation.")] = 86400.0,
    local: LocalFlag = None,
    tokenizer: TokenizerFlag = None,
    html: HtmlFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask a suite of a model that the gateway serves, and show its score with its interval.

    The word `run` may be left out. Exit code 1 if a row has no answer; Ctrl-C leaves the evaluation running.
    """
    from gateway.cli.evaluating.tools.running import OutsideRun, asked_of_tool, run_outside

    outside = asked_of_tool(suite)
    if outside is None and (local is not None or tokenizer is not None):
        raise typer.BadParameter("--local and --tokenizer go with --suite evalscope:... or lm-eval:...")
    body: dict[str, Any] = {"model": model, "limit": limit, "concurrency": concurrency, "timeout_s": timeout}
    with Client(flags=FLAGS) as client:
        if outside is None:
            created = client.post(PATH, EvaluationObject, {**body, "suite": suite_field(suite)}).id
        else:
            tool, tasks = outside
            asked = OutsideRun(tool=tool, tasks=tasks, local=local, tokenizer=tokenizer, **body)
            created = run_outside(client, asked)
        _finish(client, followed(client, created), html, as_json)


def suite_field(suite: str) -> str | dict[str, Any]:
    """Return what a request names the suite by: its content, for a file of this machine."""
    path = Path(suite).expanduser()
    if suite.startswith(("builtin:", "file-")) or (len(suite) == 64 and not path.exists()):
        return suite
    from evaluation.errors import SuiteInvalid
    from evaluation.suite_files import read_suite

    try:
        read = read_suite(path)
    except SuiteInvalid as exc:
        raise CommandFailed(str(exc)) from exc
    content: dict[str, Any] = json.loads(read.canonical())
    return content


def followed(client: Client, evaluation_id: str) -> EvaluationStory:
    """Show how far the evaluation is until it has ended, and return it."""
    path = f"{PATH}/{part(evaluation_id)}"
    try:
        with LiveLine(stderr_console()) as line:
            while not (story := client.get(path, EvaluationStory)).state.has_ended:
                waits = f"; waits: {story.waits_for}" if story.waits_for else ""
                detail = f", {story.done} of {story.total} rows answered{waits}"
                line.show(f"{story.model.served_name} {story.state}", detail, story.done / max(1, story.total))
                time.sleep(_POLL_S)
    except (KeyboardInterrupt, SystemExit):
        note(f"{evaluation_id} goes on; `lorry eval show {evaluation_id}` shows it, `lorry eval cancel` ends it")
        raise
    return story


def _finish(client: Client, story: EvaluationStory, html: Path | None, as_json: bool) -> None:
    """Show an evaluation that has ended, and write its page; `CommandFailed` unless it has a score."""
    if story.scores is not None and html is not None:
        _write_page(client, story.id, html)
    if as_json:
        show_json(story)
    else:
        show_story(story)
    if story.scores is None:
        why = str(story.state) if story.error is None else story.error.message.rpartition("\n")[2]
        goes_on = f". `lorry eval resume {story.id}` goes on where it ended" if story.tool == LORRY else ""
        raise CommandFailed(f"{story.id} has no score: {why}{goes_on}")
    if html is not None:
        note(f"The page: {html}")


def _write_page(client: Client, evaluation_id: str, html: Path) -> None:
    try:
        html.write_bytes(b"".join(client.download(f"{PATH}/{part(evaluation_id)}/report")))
    except OSError as exc:
        raise CommandFailed(f"{html}: {exc.strerror}") from exc


@app.command("list")
def list_evaluations(
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Of this revision or base model only.")] = None,
    adapter: Annotated[str | None, typer.Option(metavar="NAME", help="Of any revision of this adapter.")] = None,
    state: Annotated[EvaluationState | None, typer.Option(help="In this state only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of evaluations.")] = 20,
    wide: WideFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List evaluations, newest first."""
    asked = None if state is None else str(state)
    with Client() as client:
        found = client.get(
            PATH, ObjectList[EvaluationObject], model=model, adapter=adapter, state=asked, limit=limit
        ).data
    if as_json:
        show_json(found)
    else:
        show_list(found, wide=wide)


@app.command("show")
def show_one(
    evaluation_id: EvaluationId,
    answers: Annotated[
        bool, typer.Option("--answers", help="The answers too; without --json those not passed.")
    ] = False,
    html: HtmlFlag = None,
    wide: WideFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Show one evaluation, beside the stable revision's where it is of another one."""
    with Client() as client:
        whole = part(whole_id(client, "evaluation", evaluation_id))
        story = client.get(f"{PATH}/{whole}", EvaluationStory)
        found = _all_answers(client, whole) if answers else []
        if html is not None:
            _write_page(client, story.id, html)
    if as_json:
        show_json({**story.model_dump(mode="json"), **({"answers": found} if answers else {})})
        return
    show_story(story)
    if answers:
        show_answers(found, wide=wide)


def _all_answers(client: Client, whole: str) -> list[AnswerObject]:
    found: list[AnswerObject] = []
    while page := client.get(
        f"{PATH}/{whole}/answers", ObjectList[AnswerObject], after=found[-1].row if found else 0
    ).data:
        found += page
    return found


@app.command("compare")
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Name of a model, for its latest evaluation, or an id.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    suite: Annotated[str | None, typer.Option("--suite", metavar="SUITE", help="As in `lorry eval run`.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare two evaluations of one suite row by row: the difference with its interval, and paired tests."""
    body = {"first": first, "second": second, "suite": None if suite is None else suite_field(suite)}
    with Client(flags=FLAGS) as client:
        found = client.post(f"{PATH}/compare", ComparisonObject, body)
    if as_json:
        show_json(found)
    else:
        show_comparison(found)


@app.command("suites")
def list_suites(as_json: JsonFlag = False) -> None:
    """List the suites that ship with Lorry."""
    with Client() as client:
        found = client.get(f"{PATH}/suites", ObjectList[SuiteObject]).data
    if as_json:
        show_json(found)
        return
    rows = ((each.name, each.rows, each.digest[:12], each.description) for each in found)
    show_table(_SUITES, rows, "There are none.")


@app.command("resume")
def resume(evaluation_id: EvaluationId, html: HtmlFlag = None, as_json: JsonFlag = False) -> None:
    """Go on with an evaluation that failed or was cancelled; rows that have an answer keep it."""
    with Client() as client:
        whole = whole_id(client, "evaluation", evaluation_id)
        client.post(f"{PATH}/{part(whole)}/resume", EvaluationObject)
        _finish(client, followed(client, whole), html, as_json)


@app.command("cancel")
def cancel(evaluation_id: EvaluationId, as_json: JsonFlag = False) -> None:
    """Cancel an evaluation; its answers stay, and it may be resumed."""
    with Client() as client:
        whole = part(whole_id(client, "evaluation", evaluation_id))
        found = client.post(f"{PATH}/{whole}/cancel", EvaluationObject)
    if as_json:
        show_json(found)
    else:
        show(f"{found.id} is {found.state}, with {found.done} of {found.total} rows answered.")


@app.command("delete")
def delete(evaluation_id: EvaluationId, as_json: JsonFlag = False) -> None:
    """Remove an evaluation that has ended, with its answers."""
    with Client() as client:
        whole = part(whole_id(client, "evaluation", evaluation_id))
        gone = client.delete(f"{PATH}/{whole}", DeletedEvaluation)
    if as_json:
        show_json(gone)
    else:
        show(f"{gone.id} is removed.")
