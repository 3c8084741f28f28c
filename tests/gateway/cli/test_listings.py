"""Every command that prints a table fits 80 and 100 columns, and gives a pipe whole ids in one line a row."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from rich.cells import cell_len

from gateway.settings import GatewaySettings
from registry.database import open_registry
from registry.settings import RegistrySettings
from tests.conftest import write_adapter, write_base
from tests.gateway.cli.crowd import ADAPTER, BASE, COMMENT, FILE, Crowd
from tests.gateway.cli.lorry_command import lorry_at_terminal, run_lorry
from tests.gateway.served import ServedGateway

LISTINGS: Final = (
    "adapters list",
    f"adapters show {ADAPTER}",
    "audit",
    "models list --bases",
    "feedback list",
    f"feedback show {ADAPTER}@2",
    "jobs list",
    "keys list",
    "keys list --all",
    "models list",
    "replicas",
    "ps",
    "replicas list",
    f"rollout force {ADAPTER} --list",
    f"rollout history {ADAPTER}",
    f"rollout status {ADAPTER}",
)
PAGES: Final = (
    f"adapters show {ADAPTER}@1",
    f"models show {BASE}",
    f"models show {ADAPTER}",
    f"models show {ADAPTER}@1",
)


class Shop(NamedTuple):
    """A gateway before the crowd."""

    url: str
    secret: str
    crowd: Crowd

    def at_terminal(self, columns: int, command: str) -> tuple[list[str], str]:
        return lorry_at_terminal(self.url, columns, *command.split(), LORRY_API_KEY=self.secret)

    def piped(self, command: str) -> list[str]:
        return run_lorry(*command.split(), LORRY_URL=self.url, LORRY_API_KEY=self.secret)[0].splitlines()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Shop]:
    """A gateway for all tests of this file, which only read."""
    folder = tmp_path_factory.mktemp("shop")
    settings = RegistrySettings(url=f"sqlite:///{folder / 'registry.db'}", artifacts=folder / "artifacts")
    shutil.copy(sqlite_template, folder / "registry.db")
    registry = open_registry(settings)
    base = write_base(folder / "tiny")
    crowd = Crowd(registry, base, lambda seed: write_adapter(folder / f"adapter-{seed}", base, seed))
    secret = crowd.keys()
    with ServedGateway(GatewaySettings(), registry) as gateway:
        yield Shop(f"http://127.0.0.1:{gateway.port}", secret, crowd)
    registry.close()


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("command", [*LISTINGS, *PAGES])
def test_a_terminal_shows_lines_that_fit_and_says_what_is_left_out(shop: Shop, command: str, columns: int) -> None:
    lines, remarks = shop.at_terminal(columns, command)
    assert len(lines) > 1
    too_long = [line for line in lines if cell_len(line) > columns]
    # A value alone in its line may be longer than the terminal: to break it would break an id.
    assert all(len(line.split()) <= 2 for line in too_long), too_long
    assert "No room for" not in " ".join(lines) or "--wide" in " ".join(lines)
    if "no room for" in remarks:
        assert f"{columns} columns" in remarks
        assert "--wide" in remarks
        wide, nothing = shop.at_terminal(columns, f"{command} --wide")
        assert nothing == ""
        for title in re.findall(r"[A-Z][A-Z ]+", remarks.partition("no room for")[2]):
            assert title.strip() in wide[0] + " ".join(wide)


@pytest.mark.parametrize("command", LISTINGS)
def test_a_pipe_gets_whole_ids_and_as_many_words_in_each_line(shop: Shop, command: str) -> None:
    lines = shop.piped(command)
    header = max((line for line in lines if line.isupper() or line.split()[:1] == ["MOVED"]), key=len, default=lines[0])
    rows = lines[lines.index(header) + 1 :]
    titles = header.split()
    assert rows
    is_sentence = titles[-1] in ("DETAIL", "COMMENT", "MESSAGE", "EVIDENCE", "ABOUT", "OWNER")
    for row in rows:
        assert len(row.split()) == len(titles) or (is_sentence and len(row.split()) > len(titles)), row
    assert "\x1b" not in "".join(lines)


def test_ids_are_short_at_a_terminal_and_whole_in_a_pipe(shop: Shop) -> None:
    running = shop.crowd.jobs[1]
    lines, _ = shop.at_terminal(80, "jobs list")
    assert running[:14] in " ".join(lines)
    assert running not in " ".join(lines)
    assert running in " ".join(shop.at_terminal(80, "jobs list --wide")[0])
    assert [line.split()[0] for line in shop.piped("jobs list")[1:]] == shop.crowd.jobs[::-1]


def test_the_audit_log_cuts_nothing(shop: Shop) -> None:
    for lines in (shop.piped("audit"), shop.at_terminal(80, "audit")[0]):
        text = " ".join(" ".join(lines).split())
        for whole in (shop.crowd.jobs[0], f"{ADAPTER}@2", "ann@example.com", "controller", *shop.crowd.artifacts):
            assert whole in text
        assert '"training"' in text


def test_the_judges_table_says_in_a_word_what_is_wrong(shop: Shop) -> None:
    lines, _ = shop.at_terminal(80, f"rollout status {ADAPTER}")
    (header,) = [line for line in lines if line.startswith("GUARDRAIL")]
    assert header.split() == ["GUARDRAIL", "JUDGED", "CANARY", "STABLE", "WORSE", "BY", "MARGIN", "SAMPLES"]
    (row,) = [line for line in lines if line.startswith("error_rate ")]
    assert row.split()[1] in ("open", "ok")
    assert row.split()[-1] == "40/9000"


def test_a_comment_stands_below_its_rating_and_is_whole(shop: Shop) -> None:
    lines, _ = shop.at_terminal(80, f"feedback show {ADAPTER}@2")
    assert COMMENT in " ".join(" ".join(lines).split())


def test_times_of_a_pipe_can_be_read_by_date(shop: Shop) -> None:
    (header, first, *_) = shop.piped("audit")
    at = first.split()[header.split().index("TIME")]
    assert abs(time.mktime(time.strptime(at[:19], "%Y-%m-%dT%H:%M:%S")) - time.time()) < 3600


def test_a_job_shows_its_step_loss_remaining_time_and_files(shop: Shop) -> None:
    text = "\n".join(shop.at_terminal(80, f"jobs show {shop.crowd.jobs[1]}")[0])
    for fact in ("training", "3 of 90", "1.62", FILE, "about 10 min left by the speed"):
        assert fact in text, text


def test_a_revision_shows_what_people_read(shop: Shop) -> None:
    lines, _ = shop.at_terminal(100, f"adapters show {ADAPTER}@1")
    page = dict(line.split("  ", 1) for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "{" not in text
    assert text.count(BASE) == text.count("ann@example.com") == 1
    assert page["hyperparameters"].strip() == "n_epochs 3, learning_rate 0.0001, lora.rank 2, lora.alpha 4"
    assert page["job started"].strip().startswith(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1_700_000_007)))
    assert f"dataset {FILE}, rows 60, sha256" in text
