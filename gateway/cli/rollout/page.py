"""How a rollout looks in a terminal: fields, steps, and each guardrail with its interval and margin. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

from rich.text import Text

from gateway.cli.output import Column, Screen, ago, moments
from gateway.cli.rollout.gate_flags import gate_facts
from gateway.cli.rollout.step_traffic import traffic_text
from gateway.cli.tables.forms import Reader
from gateway.cli.tables.layout import field_lines, laid_out, sentence_lines
from gateway.objects.rollouts import GuardrailEvidence, RolloutMove, RolloutObject, RolloutStory, VerdictObject
from registry.rollouts.rollout_state import RolloutState

BAR_WIDTH: Final = 31
GUARDRAIL_COLUMNS: Final = (
    Column("GUARDRAIL"),
    Column("JUDGED", 1),
    Column("CANARY", 2),
    Column("STABLE", 2),
    Column("WORSE BY", 3),
    Column("MARGIN", 4),
    Column("SAMPLES", 5),
    Column("BETWEEN", 6),
    Column("", 7),
)
MOVE_COLUMNS: Final = (
    Column("MOVED", 1, moments),
    Column("STATE"),
    Column("STEP"),
    Column("REASON", 2),
    Column("BY", 3),
    Column("EVIDENCE", below=True),
)


def page(rollout: RolloutStory, screen: Screen, notice: str = "") -> list[Text]:
    """Return everything about a rollout as lines for *screen*, with *notice* at the end."""
    lines = [*sentence_lines(headline(rollout), screen, "bold"), Text()]
    lines += field_lines(fields_of(rollout), screen)
    if rollout.evidence is not None and rollout.evidence.evidence:
        lines += [Text(), *guardrails_of(rollout.evidence, screen)]
    lines += [Text(), *laid_out(MOVE_COLUMNS, map(_move_row, _numbered(rollout)), screen).lines]
    notice = notice or rollout.obstacle or ""
    return lines + (sentence_lines(notice, screen, "yellow") if notice else [])


def headline(rollout: RolloutObject) -> str:
    """Return what serves now, in which share, and what served before."""
    canary, stable, at = rollout.canary, rollout.stable, _since(rollout.finished_at)
    if rollout.state is RolloutState.PROMOTED:
        before = "" if stable is None else f"; before that {stable} did"
        return f"{canary} serves all traffic since {at}{before}"
    rest = "nothing serves" if stable is None else f"{stable} serves all traffic"
    if rollout.state is RolloutState.ABORTED:
        return f"{rest}; the rollout of {canary} was aborted {at}"
    if rollout.state is RolloutState.PENDING:
        return f"{rest}; {canary} is not loaded yet"
    held = ", held by a pause" if rollout.state is RolloutState.PAUSED else ""
    if rollout.canary_weight:
        return (
            f"{stable} serves {100 - rollout.canary_weight} %, {canary} {rollout.canary_weight} % of the traffic{held}"
        )
    return f"{rest}; {canary} gets copies of {rollout.shadow_percent} % of the requests{held}"


def fields_of(rollout: RolloutObject) -> Iterable[tuple[str, str | None]]:
    """Return what is rolled out, where the rollout stands, and the verdict of the judge."""
    takes = f"{rollout.canary_weight} % of the conversations"
    if rollout.shadow_percent:
        takes = f"copies of {rollout.shadow_percent} % of the requests, and nobody sees its answers"
    facts = {
        "rollout": rollout.id,
        "canary": f"{rollout.canary} (stable when it began: {rollout.stable})",
        "state": f"{rollout.state} ({rollout.reason}), by {rollout.actor}",
        "steps": steps_of(rollout),
        "canary takes": None if rollout.state.is_terminal else takes,
        "at this step since": None if rollout.state.is_terminal else ago(rollout.step_since),
        "message": rollout.message,
        "traffic": traffic_text(rollout),
        "judged on": None if rollout.guardrails else "nothing: by time or by hand",
        **gate_facts(rollout),
        **_verdict_facts(rollout),
    }
    return facts.items()


def _since(at: float | None) -> str:
    return "" if at is None else ago(at)


def _verdict_facts(rollout: RolloutObject) -> dict[str, str | None]:
    verdict = rollout.evidence
    if verdict is None:
        return {}
    wins, lengths = verdict.wins, verdict.lengths
    return {
        "verdict": f"{verdict.decision} ({verdict.reason}), {_since(rollout.judged_at)}",
        "because": None if verdict.message == rollout.message else verdict.message,
        "answers preferred": None
        if wins is None
        else f"{wins.win_rate:.0%} of {wins.comparisons:,} pairs the canary's",
        "mean answer": None if lengths is None else f"{lengths.canary:,.1f} tokens, stable {lengths.stable:,.1f}",
    }


def steps_of(rollout: RolloutObject) -> str:
    """Return `5 -> (25) -> 100`, the current step in brackets."""
    current = rollout.step if rollout.state in (RolloutState.PROGRESSING, RolloutState.PAUSED) else None
    return " -> ".join(f"({step})" if at == current else str(step) for at, step in enumerate(rollout.steps))


def guardrails_of(verdict: VerdictObject, screen: Screen) -> list[Text]:
    """Return a table with a row for each guardrail; guardrails without a comparison yet come last."""
    evidence = sorted(verdict.evidence, key=lambda each: each.difference is None)
    styles = [_STYLES[judged(each)] for each in evidence]
    # The bars are drawn for people; a program has the numbers.
    columns = GUARDRAIL_COLUMNS[:-1] if screen.reader is Reader.PROGRAM else GUARDRAIL_COLUMNS
    rows = [_guardrail_row(each)[: len(columns)] for each in evidence]
    layout = laid_out(columns, rows, screen, styles)
    if screen.reader is Reader.PROGRAM:
        return layout.lines
    gone = [title or "the bars" for title in layout.left_out]
    remark = f"No room for {' and '.join(gone)}: `lorry rollout status ADAPTER --wide` has them." if gone else _LEGEND
    return layout.lines + sentence_lines(remark, screen, "dim")


def judged(evidence: GuardrailEvidence) -> str:
    """Return what the judge makes of the canary in one word."""
    if evidence.difference is None:
        return "waits"
    return "worse" if evidence.is_violated else "ok" if evidence.is_cleared else "open"


_STYLES: Final = {"worse": "red", "ok": "green", "open": "yellow", "waits": "dim"}


def _guardrail_row(each: GuardrailEvidence) -> Sequence[str]:
    drawn = bar(each)
    return (
        each.guardrail,
        judged(each),
        _value(each, each.canary_value),
        _value(each, each.stable_value),
        _amount(each, each.difference),
        _amount(each, each.margin),
        f"{each.canary_samples}/{each.stable_samples}",
        f"{_amount(each, each.low)}..{_amount(each, each.high)}" if drawn else "",
        drawn,
    )


_LEGEND: Final = "In the bars: | no difference, ! the margin, o how much worse it looks, = where that may be in truth"


def bar(evidence: GuardrailEvidence) -> str:
    """Draw the interval between twice the margin better and twice the margin worse, cut off there.

    The text is empty where no difference is known.
    """
    if evidence.difference is None:
        return ""
    span = 2 * evidence.margin or max(abs(evidence.difference), 0.01)

    def place(worse: float) -> int:
        inside = min(max(worse, -span), span)
        return round((inside + span) / (2 * span) * (BAR_WIDTH - 1))

    drawn = [" "] * BAR_WIDTH
    low = place(-span if evidence.low is None else evidence.low)
    high = place(span if evidence.high is None else evidence.high)
    drawn[low : high + 1] = "=" * (high - low + 1)
    drawn[place(0.0)] = "|"
    drawn[place(evidence.margin)] = "!"
    drawn[place(evidence.difference)] = "o"
    return "".join(drawn)


def _numbered(rollout: RolloutStory) -> list[tuple[RolloutMove, int | str]]:
    return [(move, rollout.steps[move.step]) for move in rollout.events]


def _move_row(numbered: tuple[RolloutMove, int | str]) -> Sequence[object]:
    move, step = numbered
    return (move.at, move.state, step, move.reason, move.actor, grounds_of(move))


def grounds_of(move: RolloutMove | RolloutObject) -> str:
    """Return the sentence behind a move, or the verdict at that time when a person made the move."""
    verdict = move.evidence
    return move.message or (f"(the judge: {verdict.message})" if verdict else "")


def line_of(rollout: RolloutStory) -> str:
    """Return where the rollout stands, in one line for a log."""
    verdict = rollout.evidence
    grounds = f"{verdict.decision}: {verdict.message}" if verdict else rollout.message
    grounds = rollout.obstacle or traffic_text(rollout) or grounds
    at = time.strftime("%H:%M:%S")
    weight = f"{rollout.canary_weight} %"
    return f"{at}  {rollout.canary}  {rollout.state} ({rollout.reason})  {weight}  {grounds}".rstrip()


def changes_of(rollout: RolloutStory) -> Sequence[object]:
    """Return what makes two readings of a rollout different: its place and the verdict's words, not the numbers."""
    verdict = rollout.evidence
    place = [rollout.state, rollout.step, rollout.reason, rollout.obstacle]
    return place if verdict is None else [*place, verdict.decision, verdict.reason]


def _value(evidence: GuardrailEvidence, value: float | None) -> str:
    if value is None:
        return "-"
    return {"share": f"{value:.2%}", "score": f"{value:.3f}", "s": f"{value:.3g}s"}[evidence.unit]


def _amount(evidence: GuardrailEvidence, amount: float | None) -> str:
    if amount is None:
        return "?"
    return {"share": f"{100 * amount:+.2f}pt", "score": f"{amount:+.3f}", "s": f"{amount:+.1%}"}[evidence.unit]
