"""Rewards of outputs: the grader's work, and what happens when it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from graders.errors import GradingError
from graders.grade import Grade, Sample
from graders.grading import Means, grade
from graders.sandbox.sandbox import run_grader
from registry.contracts.graders.grader_spec import GraderSpec
from trainer.errors import JobFailed
from trainer.progress import Noted, Report

MOST_FAILURES: Final = 10
"""Failed gradings in a row after which the grader, and not an output, is taken to be at fault."""


class Rewarder:
    """Grades outputs. A failed grading counts as reward 0, with a warning; `MOST_FAILURES` in a row fail the job."""

    def __init__(self, grader: GraderSpec, means: Means, report: Report) -> None:
        self._grader = grader
        self._means = means
        self._report = report
        self._failed_in_a_row = 0
        self._has_warned = False

    def check(self) -> None:
        """Raise `JobFailed` if a Python grader cannot be run here or has no function `grade`."""
        for where, source in self._grader.sources().items():
            try:
                run_grader(source, None)
            except GradingError as exc:
                raise self._failure(f"{where}: {exc}") from exc

    def grade(self, samples: Sequence[Sample], occasion: str) -> list[Grade]:
        """Return the grade of each sample; *occasion* says in warnings when they were graded."""
        grades = []
        for sample in samples:
            graded = grade(self._grader, sample, self._means)
            self._failed_in_a_row = self._failed_in_a_row + 1 if graded.is_graders_fault else 0
            if self._failed_in_a_row >= MOST_FAILURES:
                raise self._failure(f"failed {MOST_FAILURES} times in a row, the last time: {_described(graded)}")
            grades.append(graded)
        self._warn([each for each in grades if each.faults], len(grades), occasion)
        return grades

    def warn_of_equal_rewards(self, occasion: str) -> None:
        """Report, once, that the outputs of *occasion* could not be told apart."""
        if not self._has_warned:
            text = f"All outputs of {occasion} have the same reward, so the step learns nothing from them"
            self._report(Noted(message=text, level="warn"))
        self._has_warned = True

    def _warn(self, failed: Sequence[Grade], graded: int, occasion: str) -> None:
        blamed = [each for each in failed if each.is_graders_fault]
        if blamed:
            text = (
                f"The grader {self._grader.name} gave no grade to {len(blamed)} of {graded} outputs of {occasion}, "
                f"which count as 0; the first: {_described(blamed[0])}"
            )
            self._report(Noted(message=text, level="warn", data={"failed": len(blamed), "graded": graded}))

    def _failure(self, text: str) -> JobFailed:
        return JobFailed("grader_failed", f"the grader {self._grader.name} {text}", "method")


def mean_rewards(grades: Sequence[Grade]) -> Mapping[str, float]:
    """Return the mean reward, and that of each part of a multi grader over the outputs for which it has one."""
    parts: dict[str, list[float]] = {}
    for each in grades:
        for name, reward in each.sub_rewards.items():
            parts.setdefault(f"mean_reward_{name}", []).append(reward)
    means = {name: sum(rewards) / len(rewards) for name, rewards in sorted(parts.items())}
    return {"mean_reward": sum(each.reward for each in grades) / len(grades), **means}


def _described(graded: Grade) -> str:
    return "; ".join(f"{fault}: {text}" for fault, text in graded.faults.items())
