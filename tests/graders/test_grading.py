"""Every kind of grader gives the reward that its documentation promises, and names what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from graders.errors import Fault, GradingFailed
from graders.grade import Grade, Message, ModelAnswer, Sample
from graders.grading import Means, grade
from graders.http_models import read_answer
from graders.similarity import METRICS, similarity
from registry.contracts.graders.grader_kinds import parse_grader
from tests.registry.contracts.graders.test_grader_kinds import CHECK, LABEL, SCORE, multi


class ScriptedModels:
    """Models that answer what a test wants."""

    def __init__(self, text: str = "") -> None:
        self._text = text
        self.asked: list[Mapping[str, Any]] = []

    def answer(self, body: Mapping[str, Any]) -> ModelAnswer:
        self.asked.append(body)
        return ModelAnswer(text=self._text, usage={"total_tokens": 7})

    def score(self, model: str, chats: Sequence[Sequence[Message]]) -> Sequence[float]:
        return [float("nan") if model == "broken@1" else float(len(chat)) for chat in chats]


def graded(grader: Mapping[str, Any], output: str, models: ScriptedModels | None = None, **item: Any) -> Grade:
    scripted = models or ScriptedModels()
    sample = Sample(output_text=output, item=item, messages=({"role": "user", "content": "q"},))
    return grade(parse_grader(grader), sample, Means(models=scripted, reward_models=scripted))


@pytest.mark.parametrize(
    ("operation", "output", "reward"),
    [
        ("eq", "Paris", 1),
        ("eq", "paris", 0),
        ("ne", "paris", 1),
        ("ne", "Paris", 0),
        ("like", "It is Paris.", 1),
        ("like", "It is paris.", 0),
        ("ilike", "It is PARIS.", 1),
        ("ilike", "Rome", 0),
    ],
)
def test_a_string_check_is_1_or_0(operation: str, output: str, reward: float) -> None:
    assert graded({**CHECK, "operation": operation}, output, answer="Paris").reward == reward


CAT, SITTING = "the cat sat on the mat", "the cat is sitting on the mat"


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        # By hand: 6 and 7 words; 5 words, 3 pairs and 1 triple in common.
        ("rouge_1", 2 * 5 / 13),
        ("rouge_2", 2 * 3 / 11),
        ("rouge_3", 2 * 1 / 9),
        ("rouge_4", 0.0),
        ("rouge_5", 0.0),
        ("rouge_l", 2 * 5 / 13),
        # The smaller of precision and recall of 1- to 4-grams: 9 of 22.
        ("gleu", 9 / 22),
        # 22 and 29 characters, 21 of them a common subsequence.
        ("fuzzy_match", 2 * 21 / 51),
        # exp of the mean of log(5/6), log(3/5), log(1/4), log(0.1/3), times the brevity penalty exp(1 - 7/6).
        ("bleu", 0.2150625),
        # Precision 5/6, recall 5/7, two chunks: F 0.72463768 times 1 - 0.5 (2/5)^3.
        ("meteor", 0.7014493),
    ],
)
def test_a_metric_has_the_value_of_its_definition(metric: str, value: float) -> None:
    assert similarity(metric, CAT, SITTING) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_from_0_to_1(metric: str) -> None:
    assert similarity(metric, SITTING, SITTING) == pytest.approx(1, abs=2e-3)  # METEOR counts one chunk
    assert similarity(metric, "", CAT) == 0
    assert 0 <= similarity(metric, "x y z", CAT) < 0.5


def test_output_that_is_json_can_be_taken_apart_and_other_output_is_the_samples_fault() -> None:
    grader = {**CHECK, "input": "{{sample.output_json.city}}"}
    assert graded(grader, '{"city": "Paris"}', answer="Paris").reward == 1
    failed = graded(grader, "Paris", answer="Paris")
    assert (failed.reward, list(failed.faults), failed.is_graders_fault) == (0, [Fault.SAMPLE], False)
    missing = graded(CHECK, "Paris")
    assert (list(missing.faults), missing.is_graders_fault) == ([Fault.VARIABLE], True)


@pytest.mark.parametrize(
    ("text", "reward"),
    [('{"result": 0.5}', 0.5), ('```json\n{"result": "7"}\n```', 1.0), ("-3", 0.0), ("Score: 0.25.", 0.25)],
)
def test_a_score_is_read_from_the_answer_and_moved_into_the_range(text: str, reward: float) -> None:
    models = ScriptedModels(text)
    result = graded(SCORE, "an answer", models)
    assert (result.reward, result.tokens) == (reward, {"tiny": {"total_tokens": 7}})
    system, user = models.asked[0]["messages"]
    assert (system["role"], user) == ("system", {"role": "user", "content": "an answer"})
    assert "from 0 to 1" in system["content"]


@pytest.mark.parametrize(("text", "reward"), [('{"result": "good"}', 1), ("bad", 0), (" 'good'.", 1)])
def test_a_label_passes_or_not(text: str, reward: float) -> None:
    assert graded(LABEL, "an answer", ScriptedModels(text)).reward == reward


@pytest.mark.parametrize("grader", [SCORE, LABEL])
@pytest.mark.parametrize("text", ["", "no idea", '{"result": null}', "{" * 5000])
def test_an_answer_without_a_grade_is_named(grader: Mapping[str, Any], text: str) -> None:
    assert list(graded(grader, "x", ScriptedModels(text)).faults) == [Fault.MODEL_ANSWER]


def test_a_reward_model_reads_prompt_and_output() -> None:
    assert graded({"type": "reward_model", "model": "helpful@3"}, "x").reward == 2.0


def test_a_score_that_is_no_number_is_a_fault_and_no_reward() -> None:
    found = graded({"type": "reward_model", "model": "broken@1"}, "x")
    assert found.reward == 0.0
    assert "broken@1 is nan" in found.faults[Fault.OTHER]


def test_a_multi_grader_computes_its_formula_over_the_rewards_of_its_parts() -> None:
    code = {"type": "python", "name": "length", "source": "def grade(sample, item): return len(sample['output_text'])"}
    result = graded(multi("10 * right + size", right=CHECK, size=code), "Paris", answer="Paris")
    assert (result.reward, result.sub_rewards) == (15.0, {"right": 1.0, "size": 5.0})


def test_a_multi_grader_with_a_part_that_fails_gives_0_and_the_parts_that_did_not() -> None:
    code = {"type": "python", "name": "broken", "source": "def grade(sample, item): return 1 / 0"}
    result = graded(multi("right + size", right=CHECK, size=code), "Paris", answer="Paris")
    assert (result.reward, result.sub_rewards, list(result.faults)) == (0.0, {"right": 1.0}, [Fault.PYTHON])
    divided = graded(multi("1 / right", right=CHECK), "Rome", answer="Paris")
    assert (divided.reward, list(divided.faults)) == (0.0, [Fault.FORMULA])


@pytest.mark.parametrize(
    ("status", "answer", "fault"),
    [
        (401, {"error": {"message": "no key"}}, Fault.MODEL_SERVER),
        (200, {"choices": []}, Fault.MODEL_SERVER),
        (200, [], Fault.MODEL_SERVER),
        (200, {"choices": [{"message": {"refusal": "I cannot"}}]}, Fault.MODEL_REFUSAL),
    ],
)
def test_an_answer_that_is_no_chat_completion_is_named(status: int, answer: Any, fault: Fault) -> None:
    with pytest.raises(GradingFailed) as failed:
        read_answer(status, answer)
    assert failed.value.fault is fault
