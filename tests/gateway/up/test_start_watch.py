"""A start is followed until nothing is missing, something failed, a person stops it, or it takes too long."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from gateway.errors import StartFailed
from gateway.up.progress import StartProgress
from gateway.up.start_watch import StartLimits, StartState, follow_start

LIMITS = StartLimits(timeout_s=60.0, every_s=0.0, logs="logs are in /logs")
ENGINE = {"engine": "vllm loads tiny"}


class Looks:
    """States of a start, one for each look; a person stops it after the last one."""

    def __init__(self, *states: StartState) -> None:
        self._left = [*states]

    def next(self) -> StartState:
        return self._left.pop(0)

    def wait(self, timeout_s: float) -> bool:
        return not self._left


def state(missing: dict[str, str], failed: Sequence[str] = ()) -> StartState:
    return StartState(missing=missing, failed=failed)


def followed(*states: StartState, limits: StartLimits = LIMITS) -> str:
    """Follow a start through *states* and return what it printed."""
    output, looks = io.StringIO(), Looks(*states)
    with StartProgress(Console(file=output)) as progress:
        follow_start(looks.next, progress, looks, limits)
    return output.getvalue()


def test_parts_are_shown_while_they_are_missing_and_when_they_are_there() -> None:
    printed = followed(state(ENGINE | {"gateways": "starting"}), state(ENGINE), state({}))
    assert [printed.count(text) for text in ("engine: vllm loads tiny", "gateways: starting")] == [1, 1]
    assert printed.index("gateways: ready") < printed.index("engine: ready")


@pytest.mark.parametrize(
    ("states", "timeout_s", "why"),
    [
        (
            [state(ENGINE), state(ENGINE, ["out of memory"])],
            60.0,
            "does not start: out of memory; all logs are in /logs",
        ),
        ([state(ENGINE)], 60.0, "stopped before it was ready"),
        ([state(ENGINE)], -1.0, "still waiting for: .*engine.*; the logs are in /logs"),
    ],
)
def test_a_start_that_comes_to_nothing_ends_with_the_reason(
    states: list[StartState], timeout_s: float, why: str
) -> None:
    with pytest.raises(StartFailed, match=why):
        followed(*states, limits=StartLimits(timeout_s=timeout_s, every_s=0.0, logs=LIMITS.logs))
