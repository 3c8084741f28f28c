"""`python -m studies.canary.simulate`: how often the judge is wrong and how fast it is right."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from registry.rollouts.guardrails import GuardrailPlan
from studies.canary.cases import Case, CaseOutcome, cases, parts_of, simulate
from studies.canary.traffic import Load, Setting


def run(
    rollouts: int = typer.Option(10_000, min=100, help="Simulated rollouts of each case."),
    seed: int = typer.Option(1, help="The same seed gives the same numbers."),
    weight: float = typer.Option(0.05, min=0.01, max=0.99, help="The canary's share of 20 requests a second."),
    case: list[str] = typer.Option([], help="Only this case, by name; may be given several times."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of tables."),
    plots: Path | None = typer.Option(None, help="Write the plots into this folder (needs matplotlib)."),
) -> None:
    """Simulate rollouts, each judged every second of an hour: how many are aborted, and after how many requests."""
    plan, load = GuardrailPlan(), Load(weight=weight)
    chosen = _chosen(cases(plan), case)
    outcomes = []
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("simulating", total=sum(parts_of(each) for each in chosen))
        for each in chosen:
            progress.update(bar, description=each.title)
            setting = Setting(load=load, rollouts=rollouts, rng=np.random.default_rng([seed, *each.name.encode()]))
            outcomes.append(simulate(each, plan, setting, lambda: progress.advance(bar)))
    if plots is not None:
        from studies.canary.plots import write_plots

        write_plots(plots, plan, load, outcomes, seed)
    if as_json:
        typer.echo(orjson.dumps([as_object(outcome) for outcome in outcomes], option=orjson.OPT_INDENT_2).decode())
    else:
        _show(outcomes, Console())


def as_object(outcome: CaseOutcome) -> dict[str, Any]:
    """Return *outcome* for JSON, without the single rollouts; None stands for never."""
    fields = {name: value for name, value in asdict(outcome).items() if name not in ("times", "rule_times")}
    return {name: _finite(value) for name, value in fields.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, tuple):
        return [{name: _finite(part) for name, part in each.items()} for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _chosen(all_cases: tuple[Case, ...], names: list[str]) -> list[Case]:
    known = {each.name: each for each in all_cases}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise typer.BadParameter(f"unknown cases {unknown}; possible: {', '.join(known)}")
    return [known[name] for name in names] if names else list(all_cases)


def _show(outcomes: list[CaseOutcome], console: Console) -> None:
    table = Table(title="The judge")
    for heading in ("case", "aborted", "most by", "median requests", "nine of ten by"):
        table.add_column(heading, justify="left" if heading in ("case", "most by") else "right")
    rules = Table(title="A fixed threshold, tuned to the same false alarms")
    for heading in (
        "case",
        "tuned on",
        "interval",
        "in a row",
        "threshold",
        "median requests",
        "aborts if both get worse",
    ):
        rules.add_column(heading, justify="left" if heading in ("case", "tuned on") else "right")
    for outcome in outcomes:
        worst = max(outcome.aborted_by, key=lambda name: outcome.aborted_by[name])
        most = f"{worst} {outcome.aborted_by[worst]:.2%}"
        table.add_row(
            outcome.title, f"{outcome.aborted:.2%}", most, _requests(outcome.median_requests),
            _requests(outcome.slowest_tenth_requests),
        )  # fmt: skip
        for rule in outcome.rules:
            rules.add_row(
                outcome.title, rule.tuned_on, f"{rule.interval_s} s", str(rule.failures), f"{rule.threshold:.3g}",
                _requests(rule.median_requests), f"{rule.aborted_when_both_get_worse:.1%}",
            )  # fmt: skip
    console.print(table)
    if rules.rows:
        console.print(rules)


def _requests(number: float) -> str:
    return f"{number:,.0f}" if isfinite(number) else "never"


if __name__ == "__main__":
    typer.run(run)
