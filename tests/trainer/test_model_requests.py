"""A child's grader asks models by way of its worker, for the models of its job only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from graders.errors import Fault, GradingFailed
from graders.grade import ModelAnswer
from trainer.model_requests import ModelRequests, WorkerModels


class Judge:
    """A model that repeats the question, or is away."""

    def answer(self, body: Mapping[str, Any]) -> ModelAnswer:
        if body["messages"] == []:
            raise GradingFailed(Fault.MODEL_SERVER, "503: no replica")
        return ModelAnswer(text=body["messages"][0]["content"], usage={"total_tokens": 3})


@pytest.fixture
def models() -> Iterator[WorkerModels]:
    requests = ModelRequests(Judge(), frozenset({"judge"}))
    childs = WorkerModels(requests.childs.detach())
    requests.start()
    yield childs
    childs.close()
    requests.close()


def test_the_answer_comes_back_whole(models: WorkerModels) -> None:
    text = "ü" * 100_000
    answer = models.answer({"model": "judge", "messages": [{"role": "user", "content": text}]})
    assert answer == ModelAnswer(text=text, usage={"total_tokens": 3})


@pytest.mark.parametrize(
    ("body", "said"),
    [({"model": "judge", "messages": []}, "503: no replica"), ({"model": "other"}, "does not name this model")],
)
def test_a_refusal_comes_back_with_its_reason(models: WorkerModels, body: Mapping[str, Any], said: str) -> None:
    for _ in range(2):
        with pytest.raises(GradingFailed, match=said) as failed:
            models.answer(body)
        assert failed.value.fault is Fault.MODEL_SERVER


def test_a_worker_that_is_gone_is_a_failed_grading() -> None:
    requests = ModelRequests(Judge(), frozenset({"judge"}))
    childs = WorkerModels(requests.childs.detach())
    requests.close()
    with pytest.raises(GradingFailed, match="does not answer"):
        childs.answer({"model": "judge", "messages": []})
    childs.close()
