"""How a rollout looks in a terminal: fields, steps, and each guardrail with its interval and margin. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gateway.cli.output import ago

BAR_WIDTH: Final = 31
_ENDED: Final = ("promoted", "aborted")


def page(rollout: Mapping[str, Any], notice: str = "") -> RenderableType:
    """The whole of it."""
    parts: list[RenderableType] = [fields_of(rollout)]
    verdict = rollout["evidence"]
    if verdict is not None:
        parts += [Text(), guardrails_of(verdict), Text(_LEGEND, style="dim")]
    parts += [Text(), moves_of(rollout)]
    if notice:
        parts.append(Text(notice, style="yellow"))
    return Group(*parts)


def fields_of(rollout: Mapping[str, Any]) -> Table:
    """What is rolled out, where it stands, and what the judge says."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    takes = f"{rollout['canary_weight']} % of the conversations"
    if rollout["shadow_percent"]:
        takes = f"copies of {rollout['shadow_percent']} % of the requests, and nobody sees its answers"
    verdict = rollout["evidence"]
    wins, lengths = (verdict and verdict.get(name) for name in ("wins", "lengths"))
    facts = {
        "rollout": rollout["id"],
        "canary": f"{rollout['canary']} (stable when it began: {rollout['stable']})",
        "state": f"{rollout['state']} ({rollout['reason']}), by {rollout['actor']}",
        "steps": steps_of(rollout),
        "canary takes": takes,
        "at this step since": None if rollout["state"] in _ENDED else ago(rollout["step_since"]),
        "message": rollout["message"] or None,
        "judged on": None if rollout["guardrails"] else "nothing: by time or by hand",
        "verdict": verdict and f"{verdict['decision']} ({verdict['reason']}), {ago(rollout['judged_at'])}",
        "because": verdict and verdict["message"] != rollout["message"] and verdict["message"],
        "answers preferred": wins and f"{wins['win_rate']:.0%} of {wins['comparisons']:,} pairs the canary's",
        "mean answer": lengths and f"{lengths['canary']:,.1f} tokens, stable {lengths['stable']:,.1f}",
    }
    for name, fact in facts.items():
        if fact:
            table.add_row(name, escape(str(fact)))
    return table


def steps_of(rollout: Mapping[str, Any]) -> str:
    """`5 -> (25) -> 100`, the current one in brackets."""
    current = rollout["step"] if rollout["state"] in ("progressing", "paused") else None
    return " -> ".join(f"({step})" if at == current else str(step) for at, step in enumerate(rollout["steps"]))


def guardrails_of(verdict: Mapping[str, Any]) -> Table:
    """A row for each guardrail; those that nothing is known of yet last."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("GUARDRAIL", "CANARY", "STABLE", "WORSE BY", "BETWEEN", "", "MARGIN", "SAMPLES"):
        table.add_column(column, no_wrap=True)
    for each in sorted(verdict["evidence"], key=lambda each: each["difference"] is None):
        colour = "red" if each["is_violated"] else "green" if each["is_cleared"] else "yellow"
        known = each["difference"] is not None
        table.add_row(
            Text(each["guardrail"], style=colour if known else "dim"),
            _value(each, each["canary_value"]),
            _value(each, each["stable_value"]),
            _amount(each, each["difference"]),
            f"{_amount(each, each['low'])} .. {_amount(each, each['high'])}" if known else "-",
            Text(bar(each), style=colour) if known else "",
            _amount(each, each["margin"]),
            f"{each['canary_samples']:,} / {each['stable_samples']:,}",
        )
    return table


_LEGEND: Final = "in the bars: | no difference, ! the margin, o how much worse it looks, = where that may be in truth"


def bar(evidence: Mapping[str, Any]) -> str:
    """The interval drawn between twice the margin better and twice the margin worse; what lies outside is cut off."""
    span: float = 2 * evidence["margin"] or max(abs(evidence["difference"]), 0.01)

    def place(worse: float | None, otherwise: float) -> int:
        inside = min(max(otherwise if worse is None else worse, -span), span)
        return round((inside + span) / (2 * span) * (BAR_WIDTH - 1))

    drawn = [" "] * BAR_WIDTH
    low, high = place(evidence["low"], -span), place(evidence["high"], span)
    drawn[low : high + 1] = "=" * (high - low + 1)
    drawn[place(0.0, 0.0)] = "|"
    drawn[place(evidence["margin"], 0.0)] = "!"
    drawn[place(evidence["difference"], 0.0)] = "o"
    return "".join(drawn)


def moves_of(rollout: Mapping[str, Any]) -> Table:
    """Every move, oldest first."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("WHEN", "STATE", "STEP", "REASON", "BY", "ON WHAT EVIDENCE"):
        table.add_column(column, overflow="fold")
    for event in rollout["events"]:
        facts = (ago(event["at"]), event["state"], rollout["steps"][event["step"]], event["reason"], event["actor"])
        table.add_row(*(escape(str(fact)) for fact in (*facts, grounds_of(event))))
    return table


def grounds_of(move: Mapping[str, Any]) -> str:
    """The sentence behind a move, or what the judge said when a person made it."""
    verdict = move["evidence"]
    return move["message"] or (f"(the judge: {verdict['message']})" if verdict else "")


def line_of(rollout: Mapping[str, Any]) -> str:
    """Where it stands, in one line for a log."""
    verdict = rollout["evidence"]
    said = f"{verdict['decision']}: {verdict['message']}" if verdict else rollout["message"]
    at = time.strftime("%H:%M:%S")
    weight = f"{rollout['canary_weight']} %"
    return f"{at}  {rollout['canary']}  {rollout['state']} ({rollout['reason']})  {weight}  {said}".rstrip()


def changes_of(rollout: Mapping[str, Any]) -> Sequence[Any]:
    """What makes two looks at a rollout different: where it stands, and the verdict's words but not its numbers."""
    verdict = rollout["evidence"] or {}
    return [rollout["state"], rollout["step"], rollout["reason"], verdict.get("decision"), verdict.get("reason")]


def _value(evidence: Mapping[str, Any], value: float | None) -> str:
    if value is None:
        return "-"
    return {"share": f"{value:.2%}", "score": f"{value:.3f}", "s": f"{value:.3g} s"}[evidence["unit"]]


def _amount(evidence: Mapping[str, Any], amount: float | None) -> str:
    if amount is None:
        return "?"
    return {"share": f"{100 * amount:+.2f} pt", "score": f"{amount:+.3f}", "s": f"{amount:+.1%}"}[evidence["unit"]]
