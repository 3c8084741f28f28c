"""Suites in files: what is right has a digest, what is wrong is named by line and field."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from evaluation.builtin import NAMES, builtin_suite
from evaluation.checks.checking import Answered, check_answer
from evaluation.errors import SuiteInvalid
from evaluation.suite_files import parse_suite
from graders.errors import GradingFailed
from graders.grade import ModelAnswer
from tests.evaluation.judges import ScriptedJudge

WRONG = {
    '{"prompt": "x", "check": {"kind": "exct", "expect": "4"}}': "line 1: check: unknown kind exct; did you mean",
    '{"prompt": "x", "chek": {"kind": "exact", "expect": "4"}}': "line 1: unknown field chek; did you mean 'check'?",
    '{"prompt": "x", "check": {"kind": "exact"}}': "line 1: check: exact: expect: is missing",
    "[1]": "line 1: must be an object",
    "nope": "line 1: is not JSON",
    '{"prompt": "x", "check": {"kind": "regex", "pattern": "(?=a)"}}': "RE2 has no look-ahead",
    '{"prompt": "x", "check": {"kind": "json_schema", "json_schema": {"type": "objct"}}}': "is not a JSON schema",
    '{"prompt": "x", "check": {"kind": "json_schema", "json_schema": {"$ref": "http://h/x"}}}': "lies outside",
    '{"prompt": "x", "messages": [], "check": []}': "at least 1 entry",
    "": "has no rows",
    '{"suite": {"nme": "x"}}': "suite: unknown field 'nme'; did you mean 'name'?",
}


@pytest.mark.parametrize(("text", "says"), WRONG.items())
def test_what_is_wrong_with_a_suite_is_named_by_line_and_field(text: str, says: str) -> None:
    with pytest.raises(SuiteInvalid) as refused:
        parse_suite("my suite.jsonl", text.encode())
    assert says in str(refused.value)


def test_every_built_in_suite_has_thirty_to_sixty_rows_and_a_digest_of_its_own() -> None:
    suites = [builtin_suite(name) for name in NAMES]
    assert all(30 <= len(suite.rows) <= 60 for suite in suites)
    assert len({suite.digest for suite in suites}) == len(NAMES)


def test_the_digest_follows_from_what_decides_the_scores_alone() -> None:
    row = {"prompt": "2 + 2", "check": {"kind": "exact", "expect": "4"}}
    lines = parse_suite("a.jsonl", json.dumps(row).encode())
    whole = parse_suite("b.json", json.dumps({"name": "other", "rows": [{"id": "1", **row}]}).encode())
    toml = parse_suite("c.toml", b'[[rows]]\nprompt = "2 + 2"\ncheck = { kind = "exact", expect = "4" }\n')
    assert lines.digest == whole.digest == toml.digest
    other = parse_suite("a.json", json.dumps({"rows": [row], "sampling": {"max_tokens": 9}}).encode())
    assert other.digest != lines.digest
    assert lines.limited(1) is lines


def score(check: Mapping[str, object], text: str, *replies: str) -> float:
    suite = parse_suite("a.json", json.dumps([{"prompt": "hi", "check": check}]).encode())
    answered = Answered(messages=[{"role": "user", "content": "hi"}], text=text, models=ScriptedJudge(*replies))
    return check_answer(suite.rows[0].checks(), answered).score


CHECKS = (
    ({"kind": "exact", "expect": "Paris"}, " paris. ", 1),
    ({"kind": "exact", "expect": "Paris", "normalize": "none"}, "paris", 0),
    ({"kind": "exact", "expect": ["4", "four"]}, "Four!", 1),
    ({"kind": "contains", "expect": ["a", "b"]}, "A and b", 1),
    ({"kind": "contains", "expect": ["a", "b"], "any": True}, "only b", 1),
    ({"kind": "contains", "expect": "a", "unless": "c"}, "a c", 0),
    ({"kind": "regex", "pattern": "^(a+)+$"}, "a" * 50_000 + "b", 0),
    ({"kind": "json_schema", "json_schema": {"required": ["a"]}, "fenced": True}, '```json\n{"a": 1}\n```', 1),
    ({"kind": "json_schema", "json_schema": {"type": "string", "pattern": "^(a+)+$"}}, f'"{"a" * 5000}b"', 0),
    ({"kind": "json_schema", "json_schema": {"additionalProperties": False, "properties": {"a": {}}}}, '{"b": 1}', 0),
    ({"kind": "rouge_l", "reference": "the cat sat"}, "the cat sat", 1),
    (
        {"kind": "grader", "item": {"a": "x"}, "grader": {"type": "string_check", "name": "n", "operation": "eq",
         "input": "{{sample.output_text}}", "reference": "{{item.a}}"}},
        "x",
        1,
    ),
)  # fmt: skip


@pytest.mark.parametrize(("check", "text", "expected"), CHECKS)
def test_a_check_decides_and_no_pattern_hangs_it(check: Mapping[str, object], text: str, expected: float) -> None:
    assert score(check, text) == expected


def test_a_judge_gives_points_and_a_comparison_that_depends_on_the_place_is_a_tie() -> None:
    judge = {"kind": "judge", "model": "j", "rubric": "is kind"}
    assert score(judge, "hello", '{"points": 4}') == 0.75
    pair = {"kind": "pairwise", "model": "j", "reference": "bad"}
    assert score(pair, "good", '{"verdict": "A"}', '{"verdict": "B"}') == 1.0
    assert score(pair, "good", '{"verdict": "A"}', '{"verdict": "A"}') == 0.5
    assert score(pair, "good", '{"verdict": "B"}', '{"verdict": "TIE"}') == 0.0
    with pytest.raises(GradingFailed):
        score(judge, "hello", "very kind")


def test_a_judges_answer_is_held_to_its_form_by_a_schema() -> None:
    asked = ScriptedJudge('{"points": 5}')
    suite = parse_suite("a.json", b'[{"prompt": "hi", "check": {"kind": "judge", "model": "j", "rubric": "r"}}]')
    check_answer(suite.rows[0].checks(), Answered(messages=[], text="x", models=asked))
    assert asked.bodies[0]["response_format"]["json_schema"]["schema"]["properties"] == {
        "points": {"enum": [1, 2, 3, 4, 5]}
    }
    assert isinstance(asked.answer(asked.bodies[0]), ModelAnswer)
