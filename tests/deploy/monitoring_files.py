"""The dashboards and alert rules as their files have them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.pages import ROOT

FOLDER: Final = ROOT / "deploy" / "monitoring"
RULES: Final = FOLDER / "lorry_rules.yml"
RULE_TESTS: Final = FOLDER / "lorry_rules_test.yml"
DASHBOARDS: Final = tuple(sorted((FOLDER / "grafana").glob("*.json")))
_METRIC: Final = re.compile(r"\b(gateway_[a-z_]+|lorry:[a-z_:]+)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelQuery:
    """An expression of a dashboard, with the panel that shows it."""

    dashboard: str
    panel: str
    expr: str

    def over(self, seconds: int) -> str:
        """Return the expression for every choice of a variable, with *seconds* in place of Grafana's own range."""
        return re.sub(r'=~"\$\w+"', '=~".*"', self.expr.replace("$__rate_interval", f"{seconds}s"))


def panel_queries() -> Iterator[PanelQuery]:
    """Yield every expression of every dashboard."""
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        for panel in _panels(board):
            for target in panel.get("targets", ()):
                yield PanelQuery(dashboard=path.stem, panel=panel["title"], expr=target["expr"])


def _panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels") or ()


def rules() -> list[dict[str, Any]]:
    """Return all rules, alerts and recordings."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Return the rules that alert."""
    return [rule for rule in rules() if "alert" in rule]


def metrics_of(expr: str) -> set[str]:
    """Return the names of metrics in an expression, those of a histogram's buckets by the histogram's name."""
    return {name.removesuffix("_bucket") for name in _METRIC.findall(expr)}


def documented_metrics(page: Path) -> set[str]:
    """Return the metrics that a page names in code type."""
    return set(re.findall(r"`(gateway_[a-z_]+)`", page.read_text()))


def promtool(*arguments: str) -> str:
    """Run promtool and return what it prints; its complaint is that of the failed test."""
    ended = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
