"""A grader is accepted as OpenAI documents it, and a wrong one is refused by the path of the faulty field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from registry.contracts.graders.grader_kinds import parse_grader
from registry.contracts.graders.templates import fill_template
from registry.errors import GraderInvalid, TemplateUnfilled

CHECK: Mapping[str, Any] = {
    "type": "string_check",
    "name": "exact",
    "input": "{{ sample.output_text }}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
SCORE: Mapping[str, Any] = {
    "type": "score_model",
    "name": "judge",
    "model": "tiny",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
}
LIKE: Mapping[str, Any] = {**{name: CHECK[name] for name in ("name", "input", "reference")}, "type": "text_similarity"}
LABEL: Mapping[str, Any] = {**SCORE, "type": "label_model", "labels": ["good", "bad"], "passing_labels": ["good"]}


def multi(formula: str, **graders: Any) -> Mapping[str, Any]:
    return {"type": "multi", "name": "all", "graders": graders, "calculate_output": formula}


@pytest.mark.parametrize(
    "grader",
    [
        CHECK,
        SCORE,
        LABEL,
        {**SCORE, "range": [0, 10], "sampling_params": {"temperature": 1, "max_completions_tokens": 8}},
        {**SCORE, "input": [{"role": "user", "content": {"type": "input_text", "text": "x"}, "type": "message"}]},
        {"type": "python", "name": "code", "source": "def grade(sample, item): return 1.0"},
        {"type": "reward_model", "model": "helpful@3"},
        {**LIKE, "evaluation_metric": "rouge_l"},
        multi("0.5 * a + b", a=CHECK, b=SCORE),
        {**multi("exact"), "graders": CHECK},
    ],
)
def test_every_kind_of_grader_is_accepted_and_read_back_alike(grader: Mapping[str, Any]) -> None:
    parsed = parse_grader(grader)
    assert parse_grader(parsed.model_dump(mode="json", exclude_none=True)) == parsed


@pytest.mark.parametrize(
    ("grader", "param", "said"),
    [
        (7, "grader", "must be an object"),
        ({"name": "x"}, "grader.type", "string_check, text_similarity"),
        ({"type": ["python"]}, "grader.type", "unknown"),
        ({**CHECK, "type": "endpoint"}, "grader.type", "'endpoint' is unknown"),
        ({**CHECK, "operation": "=="}, "grader.operation", "must be eq, ne, like or ilike"),
        ({**CHECK, "weight": 1}, "grader.weight", "there are: type, name"),
        ({**CHECK, "input": "{{output}}"}, "grader.input", "must begin with item. or sample."),
        ({**CHECK, "input": "{{sample.text}}"}, "grader.input", "output_text, output_json"),
        ({**CHECK, "input": "{{item}}"}, "grader.input", "must name a variable"),
        ({**CHECK, "input": "{{item.a b}}"}, "grader.input", "is not a path"),
        ({**LIKE, "evaluation_metric": "cosine"}, "grader.evaluation_metric", "which graders do not compute"),
        ({"type": "python", "name": "x", "source": "#" * 300_000}, "grader.source", "256 KiB"),
        ({"type": "python", "name": "x", "source": "", "image_tag": "2025"}, "grader.image_tag", "leave image_tag out"),
        ({**SCORE, "range": [1, 0]}, "grader.range", "the smaller one first"),
        ({**SCORE, "input": []}, "grader.input", "at least 1"),
        (
            {**SCORE, "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "grader.input.0.content",
            "read text only",
        ),
        ({**SCORE, "sampling_params": {"reasoning_effort": "low"}}, "grader.sampling_params.reasoning_effort", "leave"),
        ({**LABEL, "passing_labels": ["fine"]}, "grader.passing_labels", "not one of labels, good, bad"),
        ({**LABEL, "labels": ["good", "good"]}, "grader.labels", "twice"),
        ({"type": "reward_model", "model": "helpful"}, "grader.model", "helpful@3"),
        (multi("a", a=CHECK, b=CHECK), "grader.calculate_output", "leaves out the grader 'b'"),
        (multi("a + c", a=CHECK), "grader.calculate_output", "no grader 'c'"),
        (multi("a", a=multi("b", b=CHECK)), "grader.graders.a.type", "cannot be part"),
        (multi("a", a={**CHECK, "input": 5}), "grader.graders.a.input", "must be a string"),
        (multi("a", **{"a-b": CHECK}), "grader.graders", "cannot stand in a formula"),
        (multi("min", min=CHECK), "grader.graders", "cannot stand in a formula"),
        ({**multi("a"), "graders": [CHECK]}, "grader.graders", "must be an object of graders"),
    ],
)
def test_a_wrong_grader_is_refused_by_the_path_of_its_fault(grader: Any, param: str, said: str) -> None:
    with pytest.raises(GraderInvalid) as refused:
        parse_grader(grader)
    assert (refused.value.param, said in str(refused.value)) == (param, True), str(refused.value)


def test_a_grader_names_the_models_sources_and_fields_that_it_needs() -> None:
    code = {"type": "python", "name": "code", "source": "def grade(sample, item): return 1.0"}
    grader = parse_grader(multi("a+b+c+d", a=CHECK, b=SCORE, c=code, d={"type": "reward_model", "model": "r@1"}))
    assert grader.asked_models() == {"tiny"}
    assert grader.reward_models() == {"r@1"}
    assert grader.sources() == {"graders.c.source": code["source"]}
    assert grader.item_fields() == {"answer"}


def test_a_template_takes_text_as_it_is_and_other_values_as_json() -> None:
    item = {"a": {"b c": [1, "x"]}, "text": "{{item.a}}", "tree": {"ü": None}}
    namespaces = {"item": item, "sample": {"output_text": "4"}}
    assert fill_template("{{item.a['b c'][1]}}{{ item.a[\"b c\"][0] }}", namespaces) == "x1"
    assert fill_template("{{item.text}} {{item.tree}}", namespaces) == '{{item.a}} {"ü": null}'


@pytest.mark.parametrize(("text", "is_output"), [("{{item.b}}", False), ("{{sample.output_json.x}}", True)])
def test_a_template_without_a_value_says_whether_the_output_is_to_blame(text: str, is_output: bool) -> None:
    with pytest.raises(TemplateUnfilled) as failed:
        fill_template(text, {"item": {"a": 1}, "sample": {"output_json": [1]}})
    assert failed.value.is_output is is_output
