"""The phases of a running job, from its claim to its end. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class JobPhase(StrEnum):
    """The phases of a running job; a kind of job leaves out those that it does not need."""

    STARTING = "starting"  # the child starts and imports its libraries
    ENCODING = "encoding"  # rows of the files become tokens
    LOADING = "loading"  # the base model is read
    PREPARING = "preparing"  # what is needed of the untrained model is computed
    TRAINING = "training"  # steps are made
    FINISHING = "finishing"  # the result is written as it is served, with its fingerprint
    PUBLISHING = "publishing"  # the result enters the registry

    @property
    def doing(self) -> str:
        """The phase for people."""
        return _DOING[self]


_DOING: Final[Mapping[JobPhase, str]] = {
    JobPhase.STARTING: "starting the job's process",
    JobPhase.ENCODING: "encoding rows",
    JobPhase.LOADING: "loading the model",
    JobPhase.PREPARING: "computing what the method needs of the untrained model",
    JobPhase.TRAINING: "training",
    JobPhase.FINISHING: "writing the result and its fingerprint",
    JobPhase.PUBLISHING: "publishing",
}
