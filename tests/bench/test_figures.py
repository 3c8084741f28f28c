"""The figures of the benchmark follow from its runs."""

from __future__ import annotations

import pytest

from bench.comparison.cases import Case
from bench.comparison.figures import Runs, Verdict, verdicts
from bench.comparison.measuring import Run
from bench.comparison.native import Load, Percentiles
from bench.comparison.tables import number, show_case, show_verdicts

PLAIN = Case(name="16 clients", clients=16, tokens=16, is_stream=False)
STREAM = Case(name="16 streams, full speed", clients=16, tokens=64, is_stream=True)


def run(
    target: str,
    case: Case,
    number: int,
    *,
    ok: int = 0,
    chunks: int = 0,
    cpu_s: float = 1.0,
    first: float = 0.0,
    streams: int = 100,
) -> Run:
    """A run of one second, with so many streams whose first token came after so many microseconds."""
    load = Load(
        seconds=1.0,
        ok=ok,
        failed=0,
        failures={},
        chunks=chunks,
        client_cpu_s=0.1,
        whole_us=Percentiles(p50=500.0, p99=900.0),
        on_the_way_us=Percentiles(p50=None, p99=None),
        first_token_us=(first,) * streams if case.is_stream else (),
    )
    return Run(target=target, case=case.name, round=number, load=load, serving_cpu_s=cpu_s, whole_cpu_s=2 * cpu_s)


def by_wanted(runs: list[Run], case: Case, *peers: str) -> dict[str, Verdict]:
    return {one.wanted.split(" at ")[0]: one for one in verdicts(Runs(all=runs), [case], peers)}


def test_the_ratio_is_the_median_of_those_in_each_round_so_that_a_disturbed_round_does_not_count() -> None:
    ours = [run("lorry", PLAIN, at, ok=ok) for at, ok in enumerate((1500, 150, 1500))]
    theirs = [run("smg", PLAIN, at, ok=ok) for at, ok in enumerate((1000, 100, 1000))]
    assert by_wanted(ours + theirs, PLAIN, "smg")["requests/s"].ratio == pytest.approx(1.5)


def test_a_bound_is_held_against_the_best_peer_and_a_miss_says_by_how_much() -> None:
    runs = [run("lorry", PLAIN, 0, ok=1000), run("smg", PLAIN, 0, ok=500), run("vllm-router", PLAIN, 0, ok=1000)]
    found = by_wanted(runs, PLAIN, "smg", "vllm-router")["requests/s"]
    assert (found.peer, found.told) == ("vllm-router", "missed by 20%")


def test_a_stream_is_judged_by_chunks_their_cost_and_what_it_adds_to_the_first_token() -> None:
    runs = [
        run("direct", STREAM, 0, chunks=90_000, first=100),
        run("lorry", STREAM, 0, chunks=40_000, cpu_s=1.0, first=900),
        run("smg", STREAM, 0, chunks=40_000, cpu_s=1.0, first=700),
    ]
    found = by_wanted(runs, STREAM, "smg")
    assert found["chunks/s"].told == "met"
    assert found["CPU µs per chunk"].told == "met"
    added = found["added TTFT p99 ms not above the best peer's"]
    assert [added.ours, added.theirs] == pytest.approx([0.8, 0.6])
    assert added.told == "missed by 0.20 ms"


def test_a_peer_that_crashed_is_no_measure() -> None:
    runs = [
        *(run("lorry", STREAM, at, chunks=40_000) for at in range(2)),
        *(run("smg", STREAM, at, chunks=30_000, cpu_s=2.0) for at in range(2)),
        run("litellm", STREAM, 0, chunks=90_000, cpu_s=0.1),
        run("litellm", STREAM, 1, chunks=0, cpu_s=0.0),
    ]
    assert {one.peer for one in by_wanted(runs, STREAM, "smg", "litellm").values()} == {"smg"}
    assert by_wanted(runs, STREAM, "litellm") == {}


def test_a_p99_of_few_streams_is_not_judged() -> None:
    runs = [run(target, STREAM, 0, chunks=10, streams=99) for target in ("direct", "lorry", "smg")]
    found = by_wanted(runs, STREAM, "smg")
    assert "chunks/s" in found
    assert "added TTFT p99 ms not above the best peer's" not in found


def test_without_peers_there_is_nothing_to_say() -> None:
    assert verdicts(Runs(all=[run("lorry", PLAIN, 0, ok=1)]), [PLAIN], []) == []


def test_tables_show_every_target_and_three_digits() -> None:
    runs = Runs(all=[run("direct", PLAIN, 0, ok=51_234), run("lorry", PLAIN, 0, ok=4000, cpu_s=0.8)])
    shown = show_case(runs, PLAIN, ["direct", "lorry"])
    assert "51,234" in shown
    assert "| lorry  | 4,000      | 0.500  | 0.900  | 0.200" in shown
    assert [number(value) for value in (12345.6, 123.4, 12.34, 1.234, 0.1234, float("nan"))] == [
        "12,346",
        "123",
        "12.3",
        "1.23",
        "0.123",
        "-",
    ]


def test_verdicts_become_rows() -> None:
    runs = [run("lorry", PLAIN, 0, ok=3000), run("litellm", PLAIN, 0, ok=100)]
    shown = show_verdicts(verdicts(Runs(all=runs), [PLAIN], ["litellm"]))
    assert "requests/s at least 20 times LiteLLM's" in shown
    assert "30.00 | met" in shown
