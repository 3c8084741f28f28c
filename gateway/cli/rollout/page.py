"""How a rollout looks in a terminal: fields, steps, and each guardrail with its interval and margin. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gateway.cli.output import ago
from gateway.objects.rollouts import GuardrailEvidence, RolloutMove, RolloutObject, RolloutStory, VerdictObject
from registry.rollouts.rollout import RolloutState

BAR_WIDTH: Final = 31


def page(rollout: RolloutStory, notice: str = "") -> RenderableType:
    """Return everything about a rollout, with *notice* at the end."""
    parts: list[RenderableType] = [Text(headline(rollout), style="bold"), Text(), fields_of(rollout)]
    if rollout.evidence is not None:
        parts += [Text(), guardrails_of(rollout.evidence), Text(_LEGEND, style="dim")]
    parts += [Text(), moves_of(rollout)]
    if notice:
        parts.append(Text(notice, style="yellow"))
    return Group(*parts)


def headline(rollout: RolloutObject) -> str:
    """Return what serves now, in which share, and what served before."""
    canary, stable, at = rollout.canary, rollout.stable, ago(rollout.finished_at)
    if rollout.state is RolloutState.PROMOTED:
        before = "" if stable is None else f"; before that {stable} did"
        return f"{canary} serves all traffic since {at}{before}"
    rest = "nothing serves" if stable is None else f"{stable} serves all traffic"
    if rollout.state is RolloutState.ABORTED:
        return f"{rest}; the rollout of {canary} was aborted {at}"
    if rollout.state is RolloutState.PENDING:
        return f"{rest}; {canary} is being loaded"
    held = ", held by a pause" if rollout.state is RolloutState.PAUSED else ""
    if rollout.canary_weight:
        return (
            f"{stable} serves {100 - rollout.canary_weight} %, {canary} {rollout.canary_weight} % of the traffic{held}"
        )
    return f"{rest}; {canary} gets copies of {rollout.shadow_percent} % of the requests{held}"


def fields_of(rollout: RolloutObject) -> Table:
    """Return what is rolled out, where the rollout stands, and the verdict of the judge."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
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
        "judged on": None if rollout.guardrails else "nothing: by time or by hand",
        **_verdict_facts(rollout),
    }
    for name, fact in facts.items():
        if fact:
            table.add_row(name, escape(str(fact)))
    return table


def _verdict_facts(rollout: RolloutObject) -> dict[str, str | None]:
    verdict = rollout.evidence
    if verdict is None:
        return {}
    wins, lengths = verdict.wins, verdict.lengths
    return {
        "verdict": f"{verdict.decision} ({verdict.reason}), {ago(rollout.judged_at)}",
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


def guardrails_of(verdict: VerdictObject) -> Table:
    """Return a table with a row for each guardrail; guardrails without a comparison yet come last."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("GUARDRAIL", "CANARY", "STABLE", "WORSE BY", "BETWEEN", "", "MARGIN", "SAMPLES"):
        table.add_column(column, no_wrap=True)
    for each in sorted(verdict.evidence, key=lambda each: each.difference is None):
        colour = "red" if each.is_violated else "green" if each.is_cleared else "yellow"
        drawn = bar(each)
        table.add_row(
            Text(each.guardrail, style=colour if drawn else "dim"),
            _value(each, each.canary_value),
            _value(each, each.stable_value),
            _amount(each, each.difference),
            f"{_amount(each, each.low)} .. {_amount(each, each.high)}" if drawn else "-",
            Text(drawn, style=colour),
            _amount(each, each.margin),
            f"{each.canary_samples:,} / {each.stable_samples:,}",
        )
    return table


_LEGEND: Final = "in the bars: | no difference, ! the margin, o how much worse it looks, = where that may be in truth"


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


def moves_of(rollout: RolloutStory) -> Table:
    """Return a table of every move, oldest first."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("WHEN", "STATE", "STEP", "REASON", "BY", "ON WHAT EVIDENCE"):
        table.add_column(column, overflow="fold")
    for move in rollout.events:
        facts = (ago(move.at), move.state, rollout.steps[move.step], move.reason, move.actor, grounds_of(move))
        table.add_row(*(escape(str(fact)) for fact in facts))
    return table


def grounds_of(move: RolloutMove | RolloutObject) -> str:
    """Return the sentence behind a move, or the verdict at that time when a person made the move."""
    verdict = move.evidence
    return move.message or (f"(the judge: {verdict.message})" if verdict else "")


def line_of(rollout: RolloutObject) -> str:
    """Return where the rollout stands, in one line for a log."""
    verdict = rollout.evidence
    grounds = f"{verdict.decision}: {verdict.message}" if verdict else rollout.message
    at = time.strftime("%H:%M:%S")
    weight = f"{rollout.canary_weight} %"
    return f"{at}  {rollout.canary}  {rollout.state} ({rollout.reason})  {weight}  {grounds}".rstrip()


def changes_of(rollout: RolloutObject) -> Sequence[object]:
    """Return what makes two readings of a rollout different: its place and the verdict's words, not the numbers."""
    verdict = rollout.evidence
    place = [rollout.state, rollout.step, rollout.reason]
    return place if verdict is None else [*place, verdict.decision, verdict.reason]


def _value(evidence: GuardrailEvidence, value: float | None) -> str:
    if value is None:
        return "-"
    return {"share": f"{value:.2%}", "score": f"{value:.3f}", "s": f"{value:.3g} s"}[evidence.unit]


def _amount(evidence: GuardrailEvidence, amount: float | None) -> str:
    if amount is None:
        return "?"
    return {"share": f"{100 * amount:+.2f} pt", "score": f"{amount:+.3f}", "s": f"{amount:+.1%}"}[evidence.unit]
