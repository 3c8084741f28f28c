"""Building blocks of the dashboards: what a panel shows as plain values, and how Grafana wants it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.models import dashboard as models

SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
RATE: Final = "$__rate_interval"
"""Grafana's own range for rates: four scrapes, or what the picture's resolution asks for."""
PANEL_WIDTH: Final = 8
STAT_WIDTH: Final = 4
PANEL_HEIGHT: Final = 8
STAT_HEIGHT: Final = 4


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and the name of each of its series in the legend."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A picture of some series over time, or their last value."""

    title: str
    about: str
    """The question that the panel answers, and what to look for."""
    queries: Sequence[Query]
    unit: str = "short"
    """A unit of Grafana's: `s`, `bytes`, `reqps`, `percentunit`, `short`."""
    is_stat: bool = False
    alarm_above: float | None = None
    """A last value from which the panel is red."""
    alarm_below: float | None = None
    """A last value below which the panel is red."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    variable: str | None = None
    """A label to choose series by; the expressions hold `$LABEL`."""
    variable_source: str = ""
    """The metric that has the label."""


def built(board: Board, others: Sequence[Board]) -> models.Dashboard:
    """Return the dashboard as Grafana takes it, with links to the *others*."""
    builder = (
        boards.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(["lorry"])
        .timezone("browser")
        .refresh("30s")
        .time("now-1h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(boards.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    if board.variable is not None:
        builder = builder.with_variable(_chooser(board))
    for other in others:
        if other is not board:
            builder = builder.link(boards.DashboardLink(other.title).type(_LINK).url(f"/d/{other.uid}").keep_time(True))
    for row in board.rows:
        builder = builder.with_row(boards.Row(row.title))
        for panel in row.panels:
            builder = builder.with_panel(_stat(panel) if panel.is_stat else _series(panel))
    return builder.build()


_LINK: Final = models.DashboardLinkType.LINK


def _chooser(board: Board) -> boards.QueryVariable:
    return (
        boards.QueryVariable(board.variable or "")
        .label((board.variable or "").capitalize())
        .datasource(SOURCE)
        .query(f"label_values({board.variable_source}, {board.variable})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .include_all(True)
        .all_value(".*")
        .multi(True)
    )


def _series(panel: Panel) -> timeseries.Panel:
    made = timeseries.Panel().title(panel.title).description(panel.about).unit(panel.unit).datasource(SOURCE)
    made = made.no_value("none").span(PANEL_WIDTH).height(PANEL_HEIGHT).min(0).fill_opacity(10)
    for query in _targets(panel):
        made = made.with_target(query)
    return made


def _stat(panel: Panel) -> stat.Panel:
    made = stat.Panel().title(panel.title).description(panel.about).unit(panel.unit).datasource(SOURCE)
    made = made.no_value("none").span(STAT_WIDTH).height(STAT_HEIGHT).thresholds(_thresholds(panel))
    for query in _targets(panel):
        made = made.with_target(query)
    return made


def _targets(panel: Panel) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery()
        .expr(query.expr)
        .legend_format(query.legend)
        .datasource(SOURCE)
        .ref_id(chr(ord("A") + at))
        for at, query in enumerate(panel.queries)
    ]


def _thresholds(panel: Panel) -> boards.ThresholdsConfig:
    steps = [models.Threshold(value=None, color="green")]
    if panel.alarm_above is not None:
        steps.append(models.Threshold(value=panel.alarm_above, color="red"))
    if panel.alarm_below is not None:
        steps = [models.Threshold(value=None, color="red"), models.Threshold(value=panel.alarm_below, color="green")]
    return boards.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
