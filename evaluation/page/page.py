"""The page of an evaluation: overview, intervals, tags, the difference to the stable, every answer with a filter."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any, Final

from evaluation.page.plots import Measured, intervals

_SCRIPT: Final = files("evaluation.page").joinpath("filter.js").read_text()
POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
    f"script-src 'sha256-{b64encode(sha256(_SCRIPT.encode()).digest()).decode()}'"
)
"""Content-Security-Policy of the page: its own style, its own script, and nothing else from anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedEvaluation:
    """The contents of a page, as the JSON objects of the API."""

    evaluation: Mapping[str, Any]
    """An evaluation with its scores, and with `beside_stable` where it is compared."""
    answers: Sequence[Mapping[str, Any]]
    stable_answers: Mapping[str, Mapping[str, Any]]
    """Id of a row -> the stable's answer to it; empty without a comparison."""


def page_of(reported: ReportedEvaluation) -> str:
    """Return the whole HTML page; no text of a model or a suite is read as markup."""
    evaluation = reported.evaluation
    title = f"{evaluation['model']['served_name']} in {evaluation['suite']}"
    style = "".join(files(package).joinpath("page.css").read_text() for package in ("corpus.page", "evaluation.page"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"<h1>{escape(title)}</h1>{_subtitle(evaluation)}{_facts(evaluation, reported.answers)}"
        f'<div class="grid">{_cards(reported)}</div></main><script>{_SCRIPT}</script></body></html>\n'
    )


def _subtitle(evaluation: Mapping[str, Any]) -> str:
    model, at = evaluation["model"], datetime.fromtimestamp(evaluation["created_at"], UTC)
    parts = [
        evaluation["id"],
        f"weights {model['digest'][:16]}…",
        f"base {model['base']}",
        f"suite {evaluation['suite_digest'][:16]}…",
        f"by {evaluation['owner']} at {at:%Y-%m-%d %H:%M} UTC",
        *(f"judge {judge['served_name']} {judge['digest'][:12]}…" for judge in evaluation["judges"].values()),
    ]
    if evaluation["tool"] != "lorry":
        parts.append(f"measured by {evaluation['tool']}")
    return f'<div class="soft">{escape(" · ".join(parts))}</div>'


def _facts(evaluation: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> str:
    overall = evaluation["scores"]["overall"]
    tokens = sum(answer["completion_tokens"] for answer in answers)
    cut = sum(answer["finish_reason"] == "length" for answer in answers)
    facts = {
        "score": f"{overall['score']:.3f}",
        "95 % interval": f"{overall['low']:.3f} to {overall['high']:.3f}",
        "passed": f"{overall['passed']} of {overall['rows']}",
        "passed, 95 % interval": f"{overall['pass_low']:.2f} to {overall['pass_high']:.2f}",
    }
    if evaluation["tool"] == "lorry":  # others report no tokens
        facts |= {"tokens written": f"{tokens:,}", "cut off at the limit": f"{cut}"}
    body = "".join(f'<div class="fact"><b>{escape(value)}</b>{escape(name)}</div>' for name, value in facts.items())
    return f'<div class="facts">{body}</div>'


def _cards(reported: ReportedEvaluation) -> str:
    evaluation = reported.evaluation
    beside, metrics = evaluation["beside_stable"], evaluation["detail"].get("metrics")
    is_alone = beside is None and not metrics
    cards = [_card("Scores with 95 % intervals", _scores(evaluation["scores"]), wide=is_alone)]
    if beside is not None:
        cards.append(_card(f"Beside {beside['second_model']}", _difference(reported)))
    if metrics:
        cards.append(_card(f"As {evaluation['tool']} reports it", _reported(metrics)))
    cards.append(_card("Answers", _answers(reported), wide=True))
    return "".join(cards)


def _card(title: str, body: str, *, wide: bool = False) -> str:
    return f'<section class="card{" wide" if wide else ""}"><h2>{escape(title)}</h2>{body}</section>'


def _scores(scores: Mapping[str, Any]) -> str:
    named = {"all rows": scores["overall"], **scores["tags"]}
    found = [
        Measured(name=name, value=each["score"], low=each["low"], high=each["high"], note=f"n {each['rows']}")
        for name, each in named.items()
    ]
    least = min(0.0, *(each.low for each in found))
    most = max(1.0, *(each.high for each in found))
    methods = ", ".join(sorted({each["method"] for each in named.values()}))
    return intervals(found, low=least, high=most, label="scores with intervals") + (
        f'<p class="soft">Intervals: {escape(methods)}.</p>'
    )


def _difference(reported: ReportedEvaluation) -> str:
    found = reported.evaluation["beside_stable"]
    measured = Measured(name="difference", value=found["difference"], low=found["low"], high=found["high"])
    reach = max(0.05, abs(found["low"]), abs(found["high"]))
    reach = min(1.0, 0.05 * int(reach / 0.05 + 1))
    kind = "better" if found["low"] > 0 else "worse" if found["high"] < 0 else "soft"
    word = {"better": "higher", "worse": "lower", "soft": "not told apart from the stable's"}[kind]
    rows = (
        ("score", f"{found['first_score']:.3f}, the stable {found['second_score']:.3f}"),
        ("difference, row by row", f"{found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"),
        ("one-sided bound, 95 %", f"at least {found['lower_bound']:+.3f}"),
        ("permutation test of the scores", f"p = {found['p_scores']:.3f}"),
        ("McNemar's exact test of passed", f"p = {found['p_passed']:.3f}"),
        ("only this one passed", f"{len(found['only_first'])} rows"),
        ("only the stable passed", f"{len(found['only_second'])} rows"),
    )
    table = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    plot = intervals([measured], low=-reach, high=reach, label="difference to the stable")
    return f'<p class="{kind}">The score is {word}.</p>{plot}<table>{table}</table>'


def _reported(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(task)}</td><td>{escape(name)}</td><td>{escape(_number(value))}</td></tr>"
        for task, values in metrics.items()
        for name, value in values.items()
    )
    return f"<table><tr><th>task</th><th>metric</th><th>value</th></tr>{rows}</table>"


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _answers(reported: ReportedEvaluation) -> str:
    tags = sorted({tag for answer in reported.answers for tag in answer["tags"]})
    options = "".join(f'<option value="{escape(tag)}">{escape(tag)}</option>' for tag in tags)
    kinds = [("all", "all answers"), ("failed", "not passed"), ("passed", "passed")]
    if reported.stable_answers:
        kinds += [("better", "better than the stable"), ("worse", "worse than the stable")]
    choices = "".join(f'<option value="{kind}">{text}</option>' for kind, text in kinds)
    form = (
        '<form class="filter">'
        '<input name="text" type="search" placeholder="search in prompts and answers" aria-label="search">'
        f'<select name="kind" aria-label="kind">{choices}</select>'
        f'<select name="tag" aria-label="tag"><option value="">all tags</option>{options}</select>'
        f'<span class="soft" id="shown">{len(reported.answers)} answers</span></form>'
    )
    rows = (_answer(answer, reported.stable_answers.get(answer["row_id"])) for answer in reported.answers)
    return form + "".join(rows)


def _answer(answer: Mapping[str, Any], stable: Mapping[str, Any] | None) -> str:
    kinds = ["passed" if answer["passed"] else "failed"]
    if stable is not None and stable["score"] != answer["score"]:
        kinds.append("better" if answer["score"] > stable["score"] else "worse")
    beside = "" if stable is None else f", stable {stable['score']:.2f}"
    first_line = answer["prompt"].strip().partition("\n")[0]
    prompt = first_line if len(first_line) <= 110 else first_line[:109] + "…"
    parts = [("prompt", answer["prompt"]), ("answer", answer["answer"])]
    parts += [("right would be", answer["target"])] if answer["target"] else []
    parts += [("check", answer["why"])] if answer["why"] else []
    parts += [] if stable is None else [("the stable's answer", stable["answer"])]
    if answer["finish_reason"]:
        counts = f"{answer['completion_tokens']} tokens, {answer['seconds']:.1f} s"
        parts.append(("ended by", f"{answer['finish_reason']}, {counts}"))
    body = "".join(f"<h3>{escape(name)}</h3><pre>{escape(text)}</pre>" for name, text in parts)
    word = "passed" if answer["passed"] else "failed"
    return (
        f'<details class="answer" data-kinds="{" ".join(kinds)}" data-tags="{escape(json.dumps(answer["tags"]))}">'
        f'<summary><i class="{word}">{word}</i>{escape(answer["row_id"])}: {escape(prompt)}'
        f"<em>{answer['score']:.2f}{beside}</em></summary>{body}</details>"
    )
