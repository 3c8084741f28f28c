"""The native mock answers by its options, and the native clients report what they saw."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.comparison.native import Load, MockEngine, free_ports, generate_load, mock_engine
from tests.waiting import wait_for

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SHORT = ("--seconds", "0.3", "--warm-s", "0", "--clients", "2")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the Makefile compiles them into."""
    folder: Path = tmp_path_factory.mktemp("native")
    subprocess.run(["make", "-s", "natives", f"BENCH={folder}"], cwd=ROOT, check=True)
    return folder


@pytest.fixture
def mock(programs: Path) -> Iterator[MockEngine]:
    with mock_engine(programs, 2) as running:
        yield running


def load(programs: Path, port: int, *words: str) -> Load:
    return generate_load(programs, ["--port", str(port), *SHORT, *words], lambda: None)


def test_streams_have_as_many_chunks_as_asked_for_at_the_pace_asked_for(programs: Path, mock: MockEngine) -> None:
    seen = load(programs, mock.ports[0], "--stream", "--tokens", "5", "--pace-us", "10000", "--finish-s", "1")
    assert seen.failed == 0
    assert seen.chunks == 5 * seen.ok > 0
    assert min(seen.first_token_us) >= 10_000
    assert seen.whole_us.p50 is not None and seen.whole_us.p50 >= 50_000
    assert seen.on_the_way_us.p50 is not None


def test_whole_answers_are_counted_and_long_prompts_go_through(programs: Path, mock: MockEngine) -> None:
    seen = load(programs, mock.ports[0], "--prompt-bytes", "100000")
    assert seen.ok > 0
    assert (seen.failed, seen.chunks) == (0, 0)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [("error", "status"), ("busy", "status"), ("cut after=2", "cut"), ("hang", "timed_out"), ("deaf", "timed_out")],
)
def test_every_fault_is_seen_for_what_it_is(programs: Path, mock: MockEngine, fault: str, outcome: str) -> None:
    mock.control(mock.ports[0], fault)
    words = ("--stream", "--tokens", "5", "--timeout-s", "0.1")
    faulty, other = (load(programs, port, *words) for port in mock.ports)
    assert set(faulty.failures) == {outcome}
    assert faulty.ok == 0
    assert (other.failures, other.ok > 0) == ({}, True)


def test_a_trickle_is_slow_and_ends(programs: Path, mock: MockEngine) -> None:
    mock.control(mock.ports[0], "trickle")
    seen = load(programs, mock.ports[0], "--stream", "--tokens", "2", "--finish-s", "5")
    assert (seen.ok, seen.failed) == (2, 0)
    assert seen.whole_us.p50 is not None and seen.whole_us.p50 >= 1_000_000


def test_nobody_listening_is_a_refusal(programs: Path) -> None:
    (port,) = free_ports(1)
    assert set(load(programs, port).failures) == {"refused"}


def test_a_client_that_leaves_is_an_aborted_answer(programs: Path, mock: MockEngine) -> None:
    load(programs, mock.ports[0], "--stream", "--tokens", "1000", "--pace-us", "10000")
    wait_for(lambda: mock.count("mock_aborted_total") == 2)
    assert mock.running == 0


def test_the_log_has_a_line_for_every_request(programs: Path, mock: MockEngine, tmp_path: Path) -> None:
    log = tmp_path / "log"
    seen = load(programs, mock.ports[0], "--log", str(log))
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len(lines) == seen.ok
    for began, first_byte, ended, outcome, status in lines:
        assert 0 < float(began) <= float(first_byte) <= float(ended)
        assert (outcome, status) == ("ok", "200")
