"""lm-eval: tasks of its own, or YAML files of a folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.cli.evaluating.tools.outside_tool import ToolFailed, ToolResult, ToolTask, answer_fields

_PRIMARY: Final = ("exact_match", "acc_norm", "acc", "f1", "rougeL", "rouge_l")
"""Metrics by which a row is scored, the first that it has; else the first one that is a number."""


class LmEval:
    """Runs `lm_eval run` against the gateway's chats, or its completions where log-likelihoods are asked for."""

    def words(self, task: ToolTask) -> Sequence[str]:
        """Return the words after the interpreter."""
        names = {"model": task.served_name, "num_concurrent": str(task.concurrency), "max_retries": "5"}
        if task.tokenizer is None:
            kind = "local-chat-completions"
            names["base_url"] = f"{task.url}/v1/chat/completions"
        else:
            kind = "local-completions"
            names |= {"base_url": f"{task.url}/v1/completions", "tokenizer": str(task.tokenizer)}
        if wrong := [value for value in names.values() if "," in value]:
            raise ToolFailed(f"lm-eval takes no comma in {wrong[0]!r}")
        model = ",".join(f"{name}={value}" for name, value in names.items())
        words = ["-m", "lm_eval", "run", "--model", kind, "--model_args", model, "--tasks", ",".join(task.tasks)]
        words += ["--output_path", str(task.out), "--log_samples", "--seed", "0"]
        words += [] if task.tokenizer is not None else ["--apply_chat_template"]
        words += [] if task.local is None else ["--include_path", str(task.local)]
        return words if task.limit is None else [*words, "--limit", str(task.limit)]

    def variables(self, key: str) -> Mapping[str, str]:
        """Return the variable with the key."""
        return {"OPENAI_API_KEY": key or "none"}

    def read(self, task: ToolTask) -> ToolResult:
        """Return scores and samples. `ToolFailed` if rows are missing."""
        reports = sorted(task.out.rglob("results_*.json"))
        if not reports:
            raise ToolFailed("lm-eval wrote no results")
        report = json.loads(reports[-1].read_text())
        answers: list[dict[str, Any]] = []
        for name, counts in report["n-samples"].items():
            found = _samples(task.out, name)
            if len(found) != counts["effective"]:
                raise ToolFailed(f"{name}: {len(found)} of {counts['effective']} rows have a sample")
            answers += found
        if not answers:
            raise ToolFailed("lm-eval scored no rows")
        metrics = {name: _numbers(values) for name, values in report["results"].items()}
        return ToolResult(answers=answers, metrics=metrics, versions={"lm-eval": str(report.get("lm_eval_version"))})


def _samples(folder: Path, name: str) -> list[dict[str, Any]]:
    paths = sorted(folder.rglob(f"samples_{name}_[0-9]*.jsonl"))
    if not paths:
        raise ToolFailed(f"{name}: lm-eval wrote no samples")
    rows = [json.loads(line) for line in paths[-1].read_text().splitlines() if line.strip()]
    if not rows:
        raise ToolFailed(f"{name}: there are no rows")
    # A task with several filters has a row for each of them; the first is the strict one.
    chosen = [row for row in rows if row["filter"] == rows[0]["filter"]]
    return [_answer(name, row) for row in chosen]


def _answer(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    metrics = [metric for metric in (*_PRIMARY, *row["metrics"]) if _is_number(row.get(metric))]
    if not metrics:
        raise ToolFailed(f"{name}: {', '.join(row['metrics'])} is not a score of a single row")
    arguments = row["arguments"]
    first: Mapping[str, Any] = next(iter(arguments.values()), {}) if isinstance(arguments, dict) else {}
    return answer_fields(
        task=name,
        row=str(row["doc_id"]),
        prompt=_text(first.get("arg_0", row["doc"])),
        answer=_text(row["filtered_resps"]),
        target=_text(row["target"]),
        score=float(row[metrics[0]]),
    )


def _text(value: Any) -> str:
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if _is_number(value)}
