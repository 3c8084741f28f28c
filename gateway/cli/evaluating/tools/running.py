"""An outside tool at work on this machine: from the evaluation's beginning to its scores, or its failure."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from engines.environments.record import ready_interpreter
from engines.errors import EnvironmentMissing
from gateway.cli.client import Client, part
from gateway.cli.errors import CommandFailed
from gateway.cli.evaluating.tools.evalscope import EvalScope
from gateway.cli.evaluating.tools.lm_eval import LmEval
from gateway.cli.evaluating.tools.outside_tool import OutsideTool, ToolFailed, ToolResult, ToolTask
from gateway.cli.following.live_line import LiveLine
from gateway.cli.gateway_address import gateway_url, key_of
from gateway.cli.output import stderr_console
from gateway.objects.evaluating.evaluations import EvaluationObject
from registry.settings import lorry_home

TOOLS: Final[Mapping[str, OutsideTool]] = {"evalscope": EvalScope(), "lm-eval": LmEval()}
"""Beginning of `--suite` -> the tool."""
_ENVIRONMENT: Final = "evaluate"
_PATH: Final = "/admin/evaluations"
_AT_ONCE: Final = 100
"""Answers of one request, which keeps it below the limit of a body."""
_LAST_LINES: Final = 12
_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideRun:
    """The options that a person gives for a tool."""

    tool: str
    tasks: tuple[str, ...]
    model: str
    limit: int | None
    concurrency: int
    timeout_s: float
    local: Path | None
    tokenizer: Path | None


def asked_of_tool(suite: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the tool and the tasks of `lm-eval:TASK,...`; None for a suite that gateways ask."""
    tool, colon, tasks = suite.partition(":")
    if not colon or tool not in TOOLS:
        return None
    names = tuple(task.strip() for task in tasks.split(",") if task.strip())
    if not names:
        raise CommandFailed(f"--suite {suite!r}: name tasks, for example {tool}:gsm8k")
    return tool, names


def run_outside(client: Client, asked: OutsideRun) -> str:
    """Have the tool score the model, report every answer, and return the id of the evaluation."""
    tool = TOOLS[asked.tool]
    try:
        interpreter = ready_interpreter(lorry_home(), _ENVIRONMENT)
    except EnvironmentMissing as exc:
        raise CommandFailed(str(exc)) from exc
    for folder, flag in ((asked.local, "--local"), (asked.tokenizer, "--tokenizer")):
        if folder is not None and not folder.is_dir():
            raise CommandFailed(f"{flag} {folder}: is not a folder")
    with tempfile.TemporaryDirectory(prefix="lorry-eval-") as work:
        task = ToolTask(
            served_name=asked.model,
            url=gateway_url(os.environ),
            tasks=asked.tasks,
            out=Path(work) / "out",
            limit=asked.limit,
            concurrency=asked.concurrency,
            local=None if asked.local is None else asked.local.resolve(),
            tokenizer=None if asked.tokenizer is None else asked.tokenizer.resolve(),
        )
        try:
            tool.words(task)  # what cannot be done is refused before an evaluation begins
        except ToolFailed as exc:
            raise CommandFailed(str(exc)) from exc
        begun = _begin(client, asked)
        task = replace(task, served_name=begun.model.served_name)
        try:
            result = _result(tool, task, interpreter, asked)
        except (KeyboardInterrupt, SystemExit):
            client.post(f"{_PATH}/{part(begun.id)}/cancel", EvaluationObject)
            raise
        except ToolFailed as exc:
            client.post(f"{_PATH}/{part(begun.id)}/outside/end", EvaluationObject, {"failure": str(exc)[:4000]})
            return begun.id
        _report(client, begun.id, result)
    return begun.id


def _begin(client: Client, asked: OutsideRun) -> EvaluationObject:
    body = {
        "model": asked.model,
        "tool": asked.tool,
        "tasks": list(asked.tasks),
        "limit": asked.limit,
        "timeout_s": asked.timeout_s,
    }
    return client.post(f"{_PATH}/outside", EvaluationObject, body)


def _result(tool: OutsideTool, task: ToolTask, interpreter: Path, asked: OutsideRun) -> ToolResult:
    """Run the tool and read its results. Raises `ToolFailed`, which has the last lines of its log."""
    log = task.out.parent / "log"
    environment = {**os.environ, **tool.variables(key_of(os.environ) or ""), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        child = subprocess.Popen(
            [str(interpreter), *tool.words(task)],
            cwd=task.out.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        code = _awaited(child, asked)
    finally:
        _end(child)
    if code != 0:
        raise ToolFailed(f"{asked.tool} ended with exit code {code}: {_last_lines(log)}")
    try:
        return tool.read(task)
    except ToolFailed as exc:
        raise ToolFailed(f"{exc}. The end of its log: {_last_lines(log)}") from exc
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ToolFailed(f"the results of {asked.tool} are not as they should be ({exc!r})") from exc


def _awaited(child: subprocess.Popen[bytes], asked: OutsideRun) -> int:
    began = time.monotonic()
    with LiveLine(stderr_console()) as line:
        while (code := child.poll()) is None:
            passed_s = time.monotonic() - began
            if passed_s > asked.timeout_s:
                raise ToolFailed(f"{asked.tool} did not end within {asked.timeout_s:g} s")
            line.show(f"{asked.tool} asks {asked.model}", f", {passed_s:.0f} s")
            time.sleep(_POLL_S)
    return code


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the tool with everything that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _last_lines(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-_LAST_LINES:])[-3000:] or "it wrote nothing"


def _report(client: Client, evaluation_id: str, result: ToolResult) -> None:
    path = f"{_PATH}/{part(evaluation_id)}/outside"
    for at in range(0, len(result.answers), _AT_ONCE):
        body: dict[str, Any] = {"first_row": at + 1, "answers": list(result.answers[at : at + _AT_ONCE])}
        client.post(f"{path}/answers", EvaluationObject, body)
    end = {"rows": len(result.answers), "metrics": result.metrics, "versions": result.versions}
    client.post(f"{path}/end", EvaluationObject, end)
