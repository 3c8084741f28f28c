"""Prometheus' text format, merged from several processes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

LABEL: Final = "gateway"
"""The label that names the process of a figure."""
_MADE_BESIDE: Final = "_created"


@dataclass(slots=True)
class _Family:
    head: list[str] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)


def merge(parts: Mapping[str, str]) -> str:
    """Merge the expositions of processes (name -> text): each family once, each sample with its `gateway`.

    The creation times of counters are left out, as they double the lines and no alert reads them.
    """
    families: dict[str, _Family] = {}
    for name, text in parts.items():
        family = _Family()
        for line in text.split("\n"):
            if line.startswith("# "):
                _, kind, metric, *_ = line.split(" ", 3)
                family = families.setdefault(metric, _Family())
                if not any(known.startswith(f"# {kind} ") for known in family.head):
                    family.head.append(line)
            elif line:
                family.samples.append(labelled(line, name))
    kept = [family for metric, family in families.items() if not metric.endswith(_MADE_BESIDE)]
    return "".join(f"{line}\n" for family in kept for line in (*family.head, *family.samples))


def labelled(sample: str, gateway: str) -> str:
    """Return the sample's line with the label added; *gateway* needs no escaping."""
    name, brace, rest = sample.partition("{")
    if brace and " " not in name:
        return f'{name}{{{LABEL}="{gateway}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{{LABEL}="{gateway}"}} {value}'


def counted(heard: int, silent: int) -> str:
    """Return the family that counts the processes in an exposition and those that did not reply."""
    text = "Gateway processes of this machine, by whether their figures are in this answer"
    return (
        f"# HELP gateway_processes {text}\n# TYPE gateway_processes gauge\n"
        f'gateway_processes{{heard="true"}} {heard}\ngateway_processes{{heard="false"}} {silent}\n'
    )
