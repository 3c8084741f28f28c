"""The plan of a rollout, from flags and from a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

DEFAULT_STEPS: Final = "5,25,50,100"
PLAN_FLAGS: Final[Mapping[str, str]] = {
    "steps": "--steps",
    'steps ["shadow:10", 25, 100]': "--steps shadow:10,25,100",
    "every_s": "--every",
    "guardrails": "--guardrail",
    "guardrail": "--guardrail",
    "shadow_judge": "--shadow-judge",
    "gate.suite": "--gate",
    "gate.min": "--gate-min",
    "gate.not_worse_than_stable_by": "--gate-margin",
    "gate": "--gate",
    "skip_gate": "--skip-gate",
    "min_samples": "--min-samples",
    "judge=false": "--no-judge",
    "revision": "revision",
}
"""Field of a plan -> its flag."""
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}

EveryFlag = Annotated[
    str | None,
    typer.Option("--every", metavar="TIME", help="Minimum duration of each step, for example 60s, 5m or 1h."),
]
GuardrailFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--guardrail",
        metavar="NAME=MARGIN",
        help="How much worse the canary may be, for example error_rate=0.02, or NAME=off.",
    ),
]
MinSamplesFlag = Annotated[
    int | None, typer.Option("--min-samples", min=1, help="Minimum number of requests on each side of a step.")
]
JudgeFlag = Annotated[
    bool, typer.Option("--judge/--no-judge", help="Advance and abort automatically, or by --every and by hand.")
]
ShadowJudgeFlag = Annotated[
    str | None, typer.Option("--shadow-judge", metavar="MODEL", help="Model that compares the answers of shadow steps.")
]


def plan_from_file(path: Path | None) -> dict[str, Any]:
    """Return the plan in a TOML file, an empty plan for None; exit code 2 if the file cannot be read."""
    if path is None:
        return {}
    try:
        plan = tomllib.loads(path.read_text())
    except OSError as exc:
        raise typer.BadParameter(f"--plan {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise typer.BadParameter(f"--plan {path}: is not text in UTF-8") from exc
    except ValueError as exc:
        raise typer.BadParameter(f"--plan {path}: is not TOML: {exc}") from exc
    if "every" in plan:
        plan["every_s"] = parse_duration(str(plan.pop("every")))
    return plan


def plan_body(
    plan: dict[str, Any],
    *,
    steps: str | None,
    every: str | None,
    guardrails: list[str] | None,
    min_samples: int | None,
    judge: bool,
    shadow_judge: str | None,
    gate: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return *plan*, overridden by the flags, as a request body; exit code 2 names a flag that makes no sense."""
    margins = dict(plan.get("guardrails") or {}) | parse_guardrails(guardrails or [])
    if min_samples is not None:
        margins["min_samples"] = min_samples
    flags: dict[str, Any] = {
        "steps": None if steps is None and "steps" in plan else parse_steps(DEFAULT_STEPS if steps is None else steps),
        "every_s": parse_duration(every),
        "guardrails": margins or None,
        "shadow_judge": shadow_judge,
        "gate": gate,
    }
    body = plan | {name: value for name, value in flags.items() if value is not None}
    return body if judge else body | {"judge": False}


def parse_steps(text: str) -> list[int | str]:
    """Return ["shadow:10", 5, 25, 100] for `shadow:10,5,25,100`; exit code 2 for anything else."""
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not part.removeprefix("shadow:").isdecimal()]
    if wrong:
        raise typer.BadParameter(
            f"--steps {text!r}: {wrong[0]!r} is not a step; write percents with commas, for example 5,25,100, "
            "or shadow:10,25,100"
        )
    return [int(part) if part.isdecimal() else part for part in parts]


def parse_duration(text: str | None) -> float | None:
    """Return `90`, `90s`, `5m` or `1h` in seconds; exit code 2 for anything else."""
    if text is None:
        return None
    number, unit = (text[:-1], text[-1]) if text and text[-1] in _UNITS else (text, "s")
    try:
        return float(number) * _UNITS[unit]
    except ValueError as exc:
        raise typer.BadParameter(f"--every {text!r}: write a time, for example 60s, 5m or 1h") from exc


def parse_guardrails(pairs: list[str]) -> dict[str, float | bool]:
    """Return {"error_rate": 0.02, "feedback": False} for ["error_rate=0.02", "feedback=off"]; exit code 2 otherwise."""
    parsed: dict[str, float | bool] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        try:
            parsed[name] = False if text == "off" else float(text)
        except ValueError as exc:
            raise typer.BadParameter(
                f"--guardrail {pair!r}: write NAME=MARGIN, for example error_rate=0.02, or NAME=off"
            ) from exc
        if not name or not equals:
            raise typer.BadParameter(f"--guardrail {pair!r}: write NAME=MARGIN, for example error_rate=0.02")
    return parsed
