"""The models that a job's grader may ask: chats by way of the worker, reward models from their folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from graders.errors import Fault, GradingFailed
from graders.grade import Message, ModelAnswer
from graders.grading import Means
from registry.contracts.methods.sampling_options import SamplingSpec, reward_input
from trainer.errors import JobFailed
from trainer.model_requests import WorkerModels
from trainer.order import ChildOrder
from trainer.training.reward_model import RewardModel


@contextmanager
def grading_means(order: ChildOrder[SamplingSpec]) -> Iterator[Means]:
    """Provide the models that the grader of *order* names."""
    rewards = StoredRewardModels(order)
    if order.model_requests is None:
        yield Means(models=_NoModels(), reward_models=rewards)
        return
    models = WorkerModels(order.model_requests)
    try:
        yield Means(models=models, reward_models=rewards)
    finally:
        models.close()


class StoredRewardModels:
    """The reward models in the inputs of an order, each loaded when it is first asked."""

    def __init__(self, order: ChildOrder[SamplingSpec]) -> None:
        self._order = order
        self._loaded: dict[str, RewardModel] = {}

    def score(self, model: str, chats: Sequence[Sequence[Message]]) -> Sequence[float]:
        """Return the score of each chat's last message; `GradingFailed` if the template refuses a chat."""
        if model not in self._loaded:
            folder = self._order.inputs[reward_input(model)]
            self._loaded[model] = RewardModel(self._order.base_path, folder)
        try:
            return [self._loaded[model].score([*chat[:-1]], chat[-1]["content"]) for chat in chats]
        except JobFailed as exc:
            raise GradingFailed(Fault.OTHER, exc.message) from exc


class _NoModels:
    """Models for a grader that asks none."""

    def answer(self, body: Mapping[str, Any]) -> ModelAnswer:
        """Raise `GradingFailed`."""
        raise GradingFailed(Fault.MODEL_SERVER, f"this run has no gateway to ask for {body['model']}")
