"""The models that a job's grader may ask: chats by way of the worker, reward models from their folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from graders.errors import Fault, GradingFailed
from graders.grade import Message, ModelAnswer
from graders.grading import Means
from registry.contracts.methods.sampling_options import SamplingSpec
from trainer.model_requests import WorkerModels
from trainer.order import ChildOrder


@contextmanager
def grading_means(order: ChildOrder[SamplingSpec]) -> Iterator[Means]:
    """Provide the models that the grader of *order* names."""
    if order.model_requests is None:
        yield Means(models=_NoModels(), reward_models=_NoRewardModels())
        return
    models = WorkerModels(order.model_requests)
    try:
        yield Means(models=models, reward_models=_NoRewardModels())
    finally:
        models.close()


class _NoModels:
    """Models for a grader that asks none."""

    def answer(self, body: Mapping[str, Any]) -> ModelAnswer:
        """Raise `GradingFailed`."""
        raise GradingFailed(Fault.MODEL_SERVER, f"this run has no gateway to ask for {body['model']}")


class _NoRewardModels:
    """Reward models for a grader that names none."""

    def score(self, model: str, chats: Sequence[Sequence[Message]]) -> Sequence[float]:
        """Raise `GradingFailed`."""
        raise GradingFailed(Fault.OTHER, f"this run has no reward model {model}")
