"""EvalScope: benchmarks of its hub, or `general_qa` and `general_mcq` over files of a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.cli.evaluating.tools.outside_tool import ToolFailed, ToolResult, ToolTask, answer_fields

_MCQ: Final = "general_mcq"
_QA: Final = "general_qa"
_SPLIT: Final = "_val"
_MOST_TOKENS: Final = 1024
_START: Final = (
    "import os, sys; from evalscope.cli.cli import run_cmd; "
    "sys.argv += ['--api-key', os.environ['EVALSCOPE_API_KEY']]; run_cmd()"
)
"""EvalScope takes a key from its words only; here no list of processes shows it."""


class EvalScope:
    """Runs `evalscope eval` against the gateway's chats."""

    def words(self, task: ToolTask) -> Sequence[str]:
        """Return the words after the interpreter. `ToolFailed` for a folder without data of the benchmark."""
        if task.tokenizer is not None:
            raise ToolFailed("--tokenizer is for lm-eval; EvalScope asks for chats only")
        sampling = {"temperature": 0, "seed": 0, "max_tokens": _MOST_TOKENS}
        words = ["-c", _START, "eval", "--model", task.served_name, "--api-url", f"{task.url}/v1"]
        words += ["--eval-type", "openai_api", "--datasets", *task.tasks, "--seed", "0", "--no-timestamp"]
        words += ["--eval-batch-size", str(task.concurrency), "--generation-config", json.dumps(sampling)]
        words += ["--work-dir", str(task.out)]
        if task.local is not None:
            places = {name: _place(name, task.local) for name in task.tasks}
            words += ["--dataset-args", json.dumps(places)]
        return words if task.limit is None else [*words, "--limit", str(task.limit)]

    def variables(self, key: str) -> Mapping[str, str]:
        """Return the variable with the key."""
        return {"EVALSCOPE_API_KEY": key or "none"}

    def read(self, task: ToolTask) -> ToolResult:
        """Return scores and samples. `ToolFailed` if a benchmark is incomplete."""
        answers: list[dict[str, Any]] = []
        metrics: dict[str, dict[str, Any]] = {}
        for name in task.tasks:
            reports = sorted(task.out.glob(f"reports/**/{name}.json"))
            if not reports:
                raise ToolFailed(f"{name}: EvalScope wrote no report")
            report = json.loads(reports[-1].read_text())
            summary = report["execution_summary"]
            if summary["incomplete"] or summary["errored"] or summary["succeeded"] < summary["requested"]:
                counts = f"{summary['succeeded']} of {summary['requested']} rows succeeded, {summary['errored']} failed"
                raise ToolFailed(f"{name}: {counts}")
            found = _reviews(task.out, name)
            if len(found) < summary["requested"]:
                raise ToolFailed(f"{name}: {len(found)} of {summary['requested']} rows have a review")
            answers += found
            metrics[name] = {each["identity"]["name"]: each["score"] for each in report["metrics"]}
        return ToolResult(answers=answers, metrics=metrics)


def _place(name: str, folder: Path) -> dict[str, Any]:
    """Return the arguments by which EvalScope reads the files of *folder*, each a subset."""
    if name not in (_MCQ, _QA):
        return {"local_path": str(folder)}
    stems = {path.stem for path in folder.iterdir() if path.suffix in (".jsonl", ".csv", ".tsv")}
    if name == _MCQ:
        subsets = sorted(stem.removesuffix(_SPLIT) for stem in stems if stem.endswith(_SPLIT))
        form = f"SUBSET{_SPLIT}.jsonl"
    else:
        subsets = sorted(stem for stem in stems if not stem.endswith((_SPLIT, "_dev")))
        form = "SUBSET.jsonl"
    if not subsets:
        raise ToolFailed(f"{folder}: has no data for {name}, which is in files {form}")
    return {"local_path": str(folder), "subset_list": subsets}


def _reviews(folder: Path, name: str) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob(f"reviews/**/{name}_*.jsonl")):
        subset = path.stem.removeprefix(f"{name}_")
        rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        found += [_answer(name, subset, row) for row in sorted(rows, key=lambda row: int(row["index"]))]
    return found


def _answer(name: str, subset: str, row: Mapping[str, Any]) -> dict[str, Any]:
    sample = row["sample_score"]["score"]
    value = sample["value"]
    main = sample.get("main_score_name") or next(iter(value), "")
    if sample.get("status") != "success" or main not in value:
        raise ToolFailed(f"{name}: row {row['index']} of {subset} has no score")
    asked = [turn["content"] for turn in row["messages"] if turn["role"] != "assistant"]
    target = row["target"]
    return answer_fields(
        task=name,
        row=f"{subset}/{row['index']}",
        prompt="\n".join(text if isinstance(text, str) else json.dumps(text) for text in asked),
        answer=str(sample.get("prediction") or ""),
        target=", ".join(map(str, target)) if isinstance(target, list) else str(target),
        score=float(value[main]),
    )
