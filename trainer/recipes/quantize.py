"""Quantize a model, after merging an adapter into it if there is one, and score it before and after."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from registry.contracts.quantizations.load_test_result import HINDERS, LOAD_TEST, LoadTestResult
from registry.contracts.quantizations.quantization_report import (
    CALIBRATION_TEXT,
    REPORT,
    QuantizationReport,
    judge,
    score,
)
from registry.contracts.quantizations.quantize_spec import STRIDE, WINDOW, QuantizeSpec
from registry.contracts.quantizations.schemes import SCHEMES
from registry.jobs.job_phase import JobPhase
from registry.types import LOAD_TESTS
from trainer.data.dataset import ChatEncoder
from trainer.errors import JobFailed
from trainer.order import ChildOrder
from trainer.progress import Noted, PhaseBegan, RecipeFinished, RecipeStopped, Report, StopAsked
from trainer.quantizing.calibration import CalibrationTokens, calibration_tokens
from trainer.quantizing.load_tests import check_passed, load_tests
from trainer.quantizing.order import QuantizeOrder
from trainer.quantizing.stored_sizes import StoredSizes, stored_sizes, stored_type
from trainer.quantizing.tool_environment import tool_interpreter
from trainer.quantizing.tool_process import QUANTIZES, tool_at_work
from trainer.recipes import Recipe
from trainer.scoring.bundled_texts import TEXTS
from trainer.training.machine import machine_facts
from trainer.training.merging.merged_folder import merge_folder

ANSWER_TOKENS: Final = 32


def quantize(order: ChildOrder[QuantizeSpec], report: Report, stop_asked: StopAsked) -> RecipeFinished | RecipeStopped:
    """Write the quantized model to the order's final folder; `JobFailed` where its scores are worse than allowed."""
    spec = order.spec
    tool = SCHEMES[spec.scheme].tool
    interpreter = Path(sys.executable) if tool is None else tool_interpreter(tool)
    encoder = ChatEncoder(order.base_path)
    report(PhaseBegan(phase=JobPhase.ENCODING))
    tokens = calibration_tokens(spec, order.inputs["calibration_file"], encoder)
    model_folder, merged = _whole_model(order, report)
    asked = _program_order(order, model_folder, tokens, encoder)
    done = _done_by(interpreter, asked, order.attempt_folder / "quantize-order.json", report, stop_asked)
    if done is None:
        return RecipeStopped(step=0)
    scores = _report(spec, tokens, done, stored_sizes(model_folder, order.final_folder))
    # Before the verdict: the numbers of a checkpoint that is refused are kept too.
    report(Noted(message=scores.verdict, data={REPORT: scores.model_dump(mode="json")}))
    if not scores.gate.passed:
        raise JobFailed(
            "quality_gate",
            f"{scores.verdict}; nothing was published. A larger max_rise, or waive with the text's name, lets it pass",
            "max_rise",
        )
    tried = _load_tests(order, model_folder, report, stop_asked)
    if tried is None:
        return RecipeStopped(step=0)
    if tried:
        scores = scores.model_copy(update={"load_tests": tried})
        report(Noted(message=f"Tried on {', '.join(tried)}", data={REPORT: scores.model_dump(mode="json")}))
    if LOAD_TEST not in spec.waived:
        check_passed(tried)
    if merged is not None:
        shutil.rmtree(model_folder)
    return RecipeFinished(
        metrics={},
        trained_tokens=None,
        versions=done["versions"],
        machine=machine_facts(order.threads),
        peak_bytes=done["peak_bytes"],
        provenance=_provenance(scores, merged),
    )


def _load_tests(
    order: ChildOrder[QuantizeSpec], model_folder: Path, report: Report, stop_asked: StopAsked
) -> dict[str, LoadTestResult] | None:
    """Return what became of the result on the engines of its pools; None where the job is asked to stop."""
    if not order.spec.engines:
        return {}

    def note(found: LoadTestResult) -> None:
        report(Noted(message=found.sentence, level="warn" if found.outcome in HINDERS else "info"))

    return load_tests(
        order.spec.engines,
        order.final_folder,
        model_folder,
        order.attempt_folder,
        order.threads,
        note,
        stop_asked,
    )


def _provenance(scores: QuantizationReport, merged: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what was measured; results of load tests by themselves, as later ones take their place."""
    found: dict[str, Any] = {REPORT: scores.model_dump(mode="json", exclude={"load_tests"})}
    if scores.load_tests:
        found[LOAD_TESTS] = {kind: each.model_dump(mode="json") for kind, each in scores.load_tests.items()}
    return found if merged is None else found | {"merge": merged}


def _whole_model(order: ChildOrder[QuantizeSpec], report: Report) -> tuple[Path, Mapping[str, Any] | None]:
    """Return the folder to quantize, and what the merge found; None for a model that needs none."""
    if "artifact" not in order.inputs:
        return order.base_path, None
    report(PhaseBegan(phase=JobPhase.LOADING))
    target = order.attempt_folder / "merged"
    merged = merge_folder(order.base_path, order.inputs["artifact"], target)
    report(Noted(message=f"{order.spec.source} merged into {order.spec.base}"))
    return target, merged


def _program_order(
    order: ChildOrder[QuantizeSpec], model_folder: Path, tokens: CalibrationTokens, encoder: ChatEncoder
) -> QuantizeOrder:
    spec = order.spec
    return QuantizeOrder(
        model_folder=str(model_folder),
        final_folder=str(order.final_folder),
        name=spec.adapter,
        scheme=spec.scheme.value,
        gguf_type=SCHEMES[spec.scheme].gguf_type,
        group_size=spec.group_size,
        stored_type=stored_type(model_folder),
        calibration=tokens.calibration,
        texts=tokens.texts,
        prompts=tokens.prompts,
        answer_tokens=ANSWER_TOKENS,
        ends=sorted(encoder.end_ids),
        window=WINDOW,
        stride=STRIDE,
        threads=order.threads,
        seed=spec.seed,
        parent_pid=os.getpid(),
    )


def _done_by(
    interpreter: Path, asked: QuantizeOrder, order_path: Path, report: Report, stop_asked: StopAsked
) -> Mapping[str, Any] | None:
    """Return what the program found out; None where the job is asked to stop, which ends the program."""
    asked.write(order_path)
    with tool_at_work(interpreter, QUANTIZES, order_path, asked.threads) as tool:
        for message in tool.messages():
            if stop_asked():
                return None
            if message is None:
                continue
            if message.kind == "finished":
                return message.data
            if message.kind == "phase":
                report(PhaseBegan(phase=JobPhase(message.message)))
            else:
                report(Noted(message=message.message, data=dict(message.data)))
    raise AssertionError  # messages end with one of these, or raise


def _report(
    spec: QuantizeSpec, tokens: CalibrationTokens, done: Mapping[str, Any], sizes: StoredSizes
) -> QuantizationReport:
    scores = {name: score(before, done["after"][name]) for name, before in done["before"].items()}
    return QuantizationReport(
        scheme=spec.scheme,
        group_size=spec.group_size,
        bits_per_weight=sizes.bits_per_weight,
        linear_bits_per_weight=sizes.linear_bits_per_weight,
        size_bytes=sizes.size_bytes,
        base_size_bytes=sizes.base_size_bytes,
        perplexity=scores,
        window=WINDOW,
        stride=STRIDE,
        scored_tokens={name: _scored(parts) for name, parts in tokens.texts.items()},
        texts={name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in TEXTS.items()},
        agreement=done["agreement"],
        same_answers=done["same_answers"],
        prompts=len(tokens.prompts),
        answer_tokens=done["answer_tokens"],
        samples=len(tokens.calibration),
        scored_rows=len(tokens.texts[CALIBRATION_TEXT]),
        gate=judge(scores, spec.max_rise, spec.waived),
    )


def _scored(parts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens of a text are scored: all but the first of each part."""
    return sum(max(len(part) - 1, 0) for part in parts)


RECIPE: Final[Recipe] = quantize
