"""Grade samples: one function for each kind of grader, and one that adds up what went wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from graders.errors import Fault, GradingFailed, SandboxMissing
from graders.grade import Grade, ModelAnswer, Models, RewardModels, Sample
from graders.model_questions import label_request, read_label, read_score, score_request
from graders.sandbox.sandbox import run_grader
from graders.similarity import similarity
from registry.contracts.graders.formula import parse_formula
from registry.contracts.graders.grader_kinds import MultiGrader
from registry.contracts.graders.grader_spec import GraderSpec
from registry.contracts.graders.model_graders import LabelModelGrader, RewardModelGrader, ScoreModelGrader
from registry.contracts.graders.templates import fill_template
from registry.contracts.graders.text_graders import PythonGrader, StringCheckGrader, TextSimilarityGrader
from registry.errors import FormulaFailed, TemplateUnfilled


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Models that graders may ask."""

    models: Models
    reward_models: RewardModels


@dataclass(slots=True)
class _Notes:
    """The questions and errors that come up while one sample is graded."""

    means: Means
    tokens: dict[str, dict[str, int]] = field(default_factory=dict)
    sub_rewards: dict[str, float] = field(default_factory=dict)
    faults: dict[Fault, str] = field(default_factory=dict)

    def ask(self, body: Mapping[str, Any]) -> str:
        """Return the text that a model answers, and count its tokens."""
        answer: ModelAnswer = self.means.models.answer(body)
        used = self.tokens.setdefault(body["model"], {})
        for name, count in answer.usage.items():
            used[name] = used.get(name, 0) + count
        return answer.text


def grade(grader: GraderSpec, sample: Sample, means: Means) -> Grade:
    """Return the grade of *sample*; where there is none, the reward is 0 and `faults` has the reason."""
    began, notes = time.monotonic(), _Notes(means)
    reward = _reward(grader, sample, notes)
    return Grade(
        reward=reward or 0.0,
        sub_rewards=notes.sub_rewards,
        faults=notes.faults,
        tokens=notes.tokens,
        seconds=time.monotonic() - began,
    )


def grade_all(grader: GraderSpec, samples: Sequence[Sample], means: Means) -> list[Grade]:
    """Return the grade of each sample, in their order."""
    return [grade(grader, sample, means) for sample in samples]


def _reward(grader: GraderSpec, sample: Sample, notes: _Notes) -> float | None:
    """Return the reward, or None after a fault was noted."""
    try:
        return _GRADING[grader.type](grader, sample, notes)
    except GradingFailed as exc:
        notes.faults[exc.fault] = exc.message
    except TemplateUnfilled as exc:
        notes.faults[Fault.SAMPLE if exc.is_output else Fault.VARIABLE] = str(exc)
    except FormulaFailed as exc:
        notes.faults[Fault.FORMULA] = str(exc)
    except SandboxMissing as exc:
        notes.faults[Fault.SANDBOX] = str(exc)
    return None


def _string_check(grader: StringCheckGrader, sample: Sample, notes: _Notes) -> float:
    namespaces = sample.namespaces()
    text, reference = fill_template(grader.input, namespaces), fill_template(grader.reference, namespaces)
    return float(_COMPARISONS[grader.operation](text, reference))


def _text_similarity(grader: TextSimilarityGrader, sample: Sample, notes: _Notes) -> float:
    namespaces = sample.namespaces()
    text, reference = fill_template(grader.input, namespaces), fill_template(grader.reference, namespaces)
    return similarity(grader.evaluation_metric, text, reference)


def _python(grader: PythonGrader, sample: Sample, notes: _Notes) -> float:
    return run_grader(grader.source, sample.namespaces())


def _score_model(grader: ScoreModelGrader, sample: Sample, notes: _Notes) -> float:
    return read_score(grader, notes.ask(score_request(grader, sample)))


def _label_model(grader: LabelModelGrader, sample: Sample, notes: _Notes) -> float:
    return read_label(grader, notes.ask(label_request(grader, sample)))


def _reward_model(grader: RewardModelGrader, sample: Sample, notes: _Notes) -> float:
    chat = [*sample.messages, {"role": "assistant", "content": sample.output_text}]
    score = notes.means.reward_models.score(grader.model, [chat])[0]
    if not math.isfinite(score):
        raise GradingFailed(Fault.OTHER, f"the score of {grader.model} is {score}, which is not a finite number")
    return score


def _multi(grader: MultiGrader, sample: Sample, notes: _Notes) -> float | None:
    for name, part in grader.parts().items():
        reward = _reward(part, sample, notes)
        if reward is not None:
            notes.sub_rewards[name] = reward
    if len(notes.sub_rewards) < len(grader.parts()):
        return None
    return parse_formula(grader.calculate_output).value(notes.sub_rewards)


_COMPARISONS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}
_GRADING: Final[Mapping[str, Callable[[Any, Sample, _Notes], float | None]]] = {
    StringCheckGrader.kind(): _string_check,
    TextSimilarityGrader.kind(): _text_similarity,
    PythonGrader.kind(): _python,
    ScoreModelGrader.kind(): _score_model,
    LabelModelGrader.kind(): _label_model,
    RewardModelGrader.kind(): _reward_model,
    MultiGrader.kind(): _multi,
}
"""`type` of a grader -> the function that grades by it."""
