"""Rows that do not fit a job are left out or cut, each counted with its reason and line, by every method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.contracts.unfit_rows import UnfitRows
from registry.database import Registry
from registry.errors import WeightsRefused
from registry.jobs.job_state import JobState
from tests.trainer.attempts import MakeJob
from tests.trainer.forks.forked_children import ForkedChildren
from tests.trainer.recipes.preference_runs import METHODS, write_pairs, write_rows
from tests.trainer.tiny_base import CHATML, save_tokenizer, write_chats
from tests.trainer.training.test_preference_batches import objective_of
from trainer.data.dataset import ChatEncoder, read_rows
from trainer.data.encoded_row import IGNORED
from trainer.data.fitting_rows import FittingRows, RowLimits
from trainer.settings import TrainerSettings

LONG = 300
SHORT = 128
FIELDS: dict[str, Any] = {
    "base": "b",
    "base_digest": "d",
    "adapter": "a",
    "training_file": "f",
    "n_epochs": 1,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "seed": 1,
}


def chat(*turns: str) -> dict[str, Any]:
    return {"messages": [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(turns)]}


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def counted(unfit: UnfitRows) -> list[tuple[str, bool, tuple[int, ...]]]:
    return [(reason.reason, reason.is_cut, reason.lines) for reason in unfit.reasons]


@pytest.mark.parametrize("method", METHODS)
def test_each_method_leaves_out_the_lines_that_are_too_long(method: str, tiny_base: Path, tmp_path: Path) -> None:
    path = write_rows(method, tmp_path / "rows.jsonl")
    lines = path.read_text().splitlines()
    lines[4] = lines[4].replace("q4", "q" * LONG)
    path.write_text("\n".join(lines) + "\n")
    objective = objective_of(method, tiny_base, max_length=SHORT)
    rows = objective.read_rows(path, "validation_file")
    unfit = objective.unfit_rows("validation_file")
    assert (len(rows), unfit.rows, unfit.dropped, unfit.cut) == (11, 12, 1, 0)
    assert counted(unfit) == [("row_too_long", False, (5,))]


def test_a_cut_row_keeps_its_beginning_and_one_without_a_learnt_token_is_left_out(
    tiny_base: Path, tmp_path: Path
) -> None:
    rows = [chat("hi", "y" * LONG), chat("hi", "yes"), chat("y" * LONG, "yes")]
    fitting = FittingRows(RowLimits(max_length=SHORT, unfit_rows="cut"))
    whole, kept = (
        read_rows(written(tmp_path / "rows.jsonl", *rows), ChatEncoder(tiny_base), each)
        for each in (FittingRows(RowLimits(max_length=10_000)), fitting)
    )
    assert [row.line for row in kept] == [1, 2]
    assert kept[0].input_ids == whole[0].input_ids[:SHORT]
    assert kept[0].labels[-1] != IGNORED
    assert counted(fitting.unfit()) == [("row_too_long", True, (1,)), ("nothing_learnt", False, (3,))]


def test_a_pair_is_cut_as_a_whole_and_counted_once(tiny_base: Path, tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.jsonl")
    path.write_text(path.read_text().replace("answer 3", "answer " * LONG).replace("ANSWER 3", "ANSWER " * LONG))
    objective = objective_of("dpo", tiny_base, max_length=SHORT, unfit_rows="cut")
    rows = objective.read_rows(path, "training_file")
    assert max(len(row.input_ids) for pair in rows for row in (*pair.preferred, *pair.rejected)) == SHORT
    assert (len(rows), counted(objective.unfit_rows("training_file"))) == (12, [("row_too_long", True, (4,))])


def test_a_row_that_the_template_refuses_is_left_out(tmp_path: Path) -> None:
    refuses = "{% if messages[0]['content'] == 'no' %}{{ raise_exception('never') }}{% endif %}"
    save_tokenizer(tmp_path, refuses + CHATML)
    fitting = FittingRows(RowLimits(max_length=SHORT))
    path = written(tmp_path / "rows.jsonl", chat("hi", "yes"), chat("no", "yes"), chat("hi", "yes"))
    assert [row.line for row in read_rows(path, ChatEncoder(tmp_path), fitting)] == [1, 3]
    [reason] = fitting.unfit().reasons
    assert (reason.reason, reason.lines, "never" in reason.example) == ("template_refused", (2,), True)


def test_the_allowed_part_is_of_the_files_rows_and_a_refusal_names_what_helps(tiny_base: Path, tmp_path: Path) -> None:
    rows = [chat("hi", "yes")] * 7 + [chat("hi", "y" * LONG)]
    fitting = FittingRows(RowLimits(max_length=SHORT))
    read_rows(written(tmp_path / "rows.jsonl", *rows), ChatEncoder(tiny_base), fitting)
    unfit = fitting.unfit()
    assert [unfit.exceeds(most) for most in (0.0, 0.12, 0.125, 1.0)] == [True, True, False, False]
    longest = unfit.reasons[0].longest
    assert unfit.refusal("training_file", 0.01, ("drop", "cut")) == (
        f"line 8: {longest} tokens, more than max_length 128 (of 8 rows of training_file these do not fit: 1 longer "
        f"than max_length (line 8, the longest has {longest} tokens)); shorten such rows, or raise max_length to "
        f"{longest}; "
        "most_unfit_rows 0.125 in place of 0.01 trains without them; unfit_rows cut keeps the beginnings of long ones"
    )
    none_left = FittingRows(RowLimits(max_length=16))
    read_rows(tmp_path / "rows.jsonl", ChatEncoder(tiny_base), none_left)
    assert none_left.unfit().exceeds(1.0)


@pytest.mark.parametrize("method", ["reward", "reinforcement", "ppo"])
def test_methods_that_need_the_ends_of_rows_refuse_to_cut(method: str) -> None:
    grader = {"type": "string_check", "name": "g", "operation": "eq", "input": "a", "reference": "b"}
    own: dict[str, Any] = {} if method == "reward" else {"grader": grader, "group_size": 2, "beta": 0, "iterations": 1}
    with pytest.raises(WeightsRefused, match=f"unfit_rows 'cut': {method} needs the ends"):
        FINE_TUNING_METHODS[method](**FIELDS, **own, unfit_rows="cut").check_weights()


@pytest.mark.trains
def test_job_and_revision_remember_what_was_left_out(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, make_job: MakeJob, home: Path
) -> None:
    path = write_chats(home / "mixed.jsonl", rows=19)
    with path.open("a") as more:
        more.write(json.dumps(chat("hi", "y" * LONG)) + "\n")
    with path.open("rb") as lines:
        file = registry.files.add(lines, filename="mixed.jsonl", purpose="fine-tune", owner="ann")
    job = make_job(training_file=file.id, validates=True, max_length=SHORT, most_unfit_rows=0.05)
    forks.work(registry, settings)
    ended = registry.jobs.get(job.id)
    assert ended.state is JobState.SUCCEEDED
    assert set(ended.unfit_rows) == {"training_file"}
    unfit = ended.unfit_rows["training_file"]
    assert (unfit.rows, unfit.dropped, unfit.reasons[0].lines) == (20, 1, (20,))
    [event] = [each for each in registry.jobs.events(job.id, limit=1000) if "left out" in each.message]
    assert (event.level, event.data["dropped"]) == ("warn", 1)
    made = registry.adapters.revision("support", 1).provenance
    assert made["dataset"]["unfit_rows"] == unfit.model_dump(mode="json")
    assert "unfit_rows" not in made["validation"]
