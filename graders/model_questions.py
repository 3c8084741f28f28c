"""Score and label by a model: the chat that it gets, and the reading of its answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from graders.errors import Fault, GradingFailed
from graders.grade import Sample
from registry.contracts.graders.model_graders import LabelModelGrader, ScoreModelGrader
from registry.contracts.graders.templates import fill_template

MOST_TOKENS: Final = 512
"""Tokens of an answer unless the grader gives a number."""
_NUMBER: Final = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def score_request(grader: ScoreModelGrader, sample: Sample) -> Mapping[str, Any]:
    """Return the chat completion that asks for a score: the grader's messages, and how to answer."""
    least, most = grader.range
    how = f'Answer with JSON only, {{"result": NUMBER}}, where NUMBER is your score from {least:g} to {most:g}.'
    sampling = grader.sampling_params
    given = {} if sampling is None else sampling.model_dump(include={"seed", "temperature", "top_p"}, exclude_none=True)
    most_tokens = None if sampling is None else sampling.max_completions_tokens
    return {
        "model": grader.model,
        "messages": _messages(grader, sample, how),
        "max_tokens": most_tokens or MOST_TOKENS,
        # A grade is a measurement: without other wishes the same answer gets the same grade.
        "temperature": 0,
        **given,
    }


def read_score(grader: ScoreModelGrader, text: str) -> float:
    """Return the score of the answer *text*, moved into the grader's range; `GradingFailed` if there is none."""
    given = _result(text)
    found = _NUMBER.search(text if given is None else str(given))
    if found is None or isinstance(given, bool):
        raise GradingFailed(Fault.MODEL_ANSWER, f"{grader.model} gave no score: {text[:200]!r}")
    least, most = grader.range
    return min(max(float(found[0]), least), most)


def label_request(grader: LabelModelGrader, sample: Sample) -> Mapping[str, Any]:
    """Return the chat completion that asks for one of the labels."""
    how = f'Answer with JSON only, {{"result": LABEL}}, where LABEL is one of {json.dumps(grader.labels)}.'
    messages = _messages(grader, sample, how)
    return {"model": grader.model, "messages": messages, "max_tokens": MOST_TOKENS, "temperature": 0}


def read_label(grader: LabelModelGrader, text: str) -> float:
    """Return 1 if the label in the answer *text* passes, else 0; `GradingFailed` if the answer has none of them."""
    given = _result(text)
    chosen = text.strip().strip("\"'`.") if given is None else given
    if chosen not in grader.labels:
        raise GradingFailed(Fault.MODEL_ANSWER, f"{grader.model} chose none of the labels: {text[:200]!r}")
    return float(chosen in grader.passing_labels)


def _messages(grader: ScoreModelGrader | LabelModelGrader, sample: Sample, how: str) -> list[dict[str, str]]:
    namespaces = sample.namespaces()
    filled = [{"role": each.role, "content": fill_template(each.text(), namespaces)} for each in grader.input]
    for message in filled:
        if message["role"] == "developer":
            message["role"] = "system"
    # Some chat templates allow one system message, and only at the beginning.
    if filled[0]["role"] == "system":
        filled[0]["content"] += f"\n\n{how}"
        return filled
    return [{"role": "system", "content": how}, *filled]


def _result(text: str) -> Any:
    """Return `result` of the JSON object in *text*, which may stand in a code block; None without one."""
    start, end = text.find("{"), text.rfind("}")
    try:
        found = json.loads(text[start : end + 1])
        return found.get("result")
    except (ValueError, AttributeError, RecursionError):
        return None
