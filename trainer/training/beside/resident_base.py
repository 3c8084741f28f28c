"""A base model that stays in memory, with what encodes rows for it, for jobs that come one after another."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from registry.contracts.pictures.vision_base import why_no_pictures
from trainer.data.dataset import ChatEncoder
from trainer.training.base_model import load_base


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedProcess:
    """The part of a process that a run shares with other jobs."""

    base: Callable[[], PreTrainedModel]
    """Gives a base model whose weights others use too."""
    aside: Callable[[], AbstractContextManager[None]]
    """Lets other jobs go on beside a block that draws no random number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    signature: object
    model: PreTrainedModel
    encoder: ChatEncoder | None


class ResidentBase:
    """The weights of one base model, loaded once; every job gets modules of its own around them."""

    def __init__(self, path: Path, signature: Callable[[], object]) -> None:
        """*signature* returns what differs once a file in the folder *path* has changed; then it is loaded again."""
        self._path = path
        self._signature = signature
        self._loaded: _Loaded | None = None

    def for_a_job(self) -> PreTrainedModel:
        """Return a model whose weights are the shared ones, which nobody may write to."""
        model = self._current().model
        shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
        return copy.deepcopy(model, shared)

    def encoder(self) -> ChatEncoder | None:
        """Return the encoder of all jobs; None for a base model that takes pictures, whose encoders keep some."""
        return self._current().encoder

    def _current(self) -> _Loaded:
        signature = self._signature()
        if self._loaded is None or self._loaded.signature != signature:
            self._loaded = None  # before the next one is loaded: memory may not hold both
            # In this order: a base model without a chat template is refused before its weights are read.
            encoder = ChatEncoder(self._path) if why_no_pictures(self._path) else None
            self._loaded = _Loaded(signature=signature, encoder=encoder, model=load_base(self._path))
            # Libraries and base model stay: no collection needs to look through their objects again.
            gc.collect()
            gc.freeze()
        return self._loaded
