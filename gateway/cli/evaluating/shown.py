"""Evaluations and comparisons as a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from gateway.cli.output import Column, moment, moments, short_digest, short_ids, show_fields, show_table
from gateway.objects.evaluating.evaluations import (
    AnswerObject,
    ComparisonObject,
    EvaluationObject,
    EvaluationStory,
    ScoreObject,
)

LISTED: Final = (
    Column("EVALUATION", 0, short_ids),
    Column("MODEL"),
    Column("SUITE"),
    Column("STATE", 1),
    Column("SCORE", 1),
    Column("INTERVAL", 2),
    Column("ROWS", 3),
    Column("BY", 5),
    Column("CREATED", 4, moments),
)
_ANSWERS: Final = (Column("ROW"), Column("SCORE", 1), Column("PASSED", 1), Column("ANSWER", below=True))
_TAGS: Final = (Column("TAG"), Column("SCORE"), Column("INTERVAL", 1), Column("PASSED", 2))


def show_list(found: Sequence[EvaluationObject], *, wide: bool) -> None:
    """Print a line for each evaluation."""
    empty = "No evaluations yet; run one with `lorry eval MODEL --suite builtin:core`."
    show_table(LISTED, map(_row, found), empty, wide=wide)


def show_story(story: EvaluationStory) -> None:
    """Print an evaluation with its scores, by tag too, and beside the stable."""
    show_fields(_facts(story))
    if story.scores is not None and story.scores.tags:
        rows = ((tag, f"{each.score:.3f}", _interval(each), _passed(each)) for tag, each in story.scores.tags.items())
        show_table(_TAGS, rows, "")


def show_answers(answers: Sequence[AnswerObject], *, wide: bool) -> None:
    """Print the answers that did not pass, then how many did."""
    failed = [each for each in answers if not each.passed]
    rows = ((each.row_id, f"{each.score:.2f}", "no", _one_line(each)) for each in failed)
    show_table(_ANSWERS, rows, "Every answer passed.", wide=wide)


def show_comparison(found: ComparisonObject) -> None:
    """Print how two evaluations differ."""
    show_fields(comparison_facts(found))


def comparison_facts(found: ComparisonObject) -> Iterable[tuple[str, Any]]:
    """Return the lines of a comparison."""
    interval = f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f}), at least {found.lower_bound:+.3f}"
    return (
        ("suite", f"{found.suite}, {found.rows} rows, {short_digest(found.suite_digest)}"),
        (found.first_model, f"{found.first_score:.3f}"),
        (found.second_model, f"{found.second_score:.3f}"),
        ("difference", interval),
        ("permutation test", f"p = {found.p_scores:.3f}"),
        ("McNemar's test", f"p = {found.p_passed:.3f}"),
        (f"only {found.first_model} passed", ", ".join(found.only_first) or "none"),
        (f"only {found.second_model} passed", ", ".join(found.only_second) or "none"),
    )


def _facts(story: EvaluationStory) -> Iterable[tuple[str, Any]]:
    overall, beside = None if story.scores is None else story.scores.overall, story.beside_stable
    return (
        ("evaluation", story.id),
        ("state", story.state),
        ("model", f"{story.model.served_name}, weights {short_digest(story.model.digest)}"),
        ("suite", f"{story.suite}, {short_digest(story.suite_digest)}"),
        ("judges", ", ".join(judge.served_name for judge in story.judges.values())),
        ("measured by", None if story.tool == "lorry" else story.tool),
        ("rows", f"{story.done} of {story.total} answered"),
        (
            "score",
            None if overall is None else f"{overall.score:.3f}, 95 % from {_interval(overall)} ({overall.method})",
        ),
        ("passed", None if overall is None else _passed(overall)),
        ("beside", None if beside is None else f"{beside.second_model} {beside.second_score:.3f}"),
        (
            "difference",
            None if beside is None else f"{beside.difference:+.3f}, 95 % from {beside.low:+.3f} to {beside.high:+.3f}",
        ),
        ("gate of", None if story.rollout is None else f"{story.rollout}, {story.side}"),
        ("waits for", story.waits_for),
        ("failed", None if story.error is None else f"{story.error.code}: {story.error.message}"),
        ("owner", story.owner),
        ("created", moment(story.created_at)),
        ("ended", moment(story.finished_at)),
    )


def _row(each: EvaluationObject) -> Sequence[Any]:
    overall = None if each.scores is None else each.scores.overall
    return (
        each.id,
        each.model.served_name,
        each.suite,
        each.state,
        None if overall is None else f"{overall.score:.3f}",
        None if overall is None else _interval(overall),
        f"{each.done} of {each.total}",
        each.owner,
        each.created_at,
    )


def _interval(score: ScoreObject) -> str:
    return f"{score.low:.3f} to {score.high:.3f}"


def _passed(score: ScoreObject) -> str:
    return f"{score.passed} of {score.rows}"


def _one_line(answer: AnswerObject) -> str:
    text = " ".join(answer.answer.split())
    cut = text if len(text) <= 160 else f"{text[:159]}…"
    return f"{cut} [{answer.why}]" if answer.why else cut
