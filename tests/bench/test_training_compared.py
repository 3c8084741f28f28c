"""Ratios of jobs are medians over rounds, and each bound is judged by its own figure."""

from __future__ import annotations

from bench.training.cases import CASES, Bound
from bench.training_compared import JobRun, read_told, verdict


def run(trainer: str, turn: int, wall_s: float, memory_mb: float) -> JobRun:
    return JobRun(
        case="a job",
        trainer=trainer,
        round=turn,
        wall_s=wall_s,
        processor_s=wall_s / 2,
        memory_mb=memory_mb,
        first_loss=4.5,
    )


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    runs = [run("lorry", turn, wall_s, 100.0) for turn, wall_s in enumerate([10.0, 60.0, 30.0])]
    runs += [run("trl", turn, wall_s, 80.0) for turn, wall_s in enumerate([20.0, 40.0, 60.0])]
    told = verdict(Bound(peer="trl", wall=0.5, processor=0.4, memory=1.0), runs)
    assert told == (
        "Lorry by trl: wall 0.50 (at most 0.5: met), processor 0.50 (at most 0.4: missed), "
        "memory 1.25 (at most 1: missed)"
    )


def test_a_bound_that_leaves_memory_open_judges_it_not() -> None:
    runs = [run("lorry", 0, 1.0, 2.0), run("ms-swift", 0, 2.0, 1.0)]
    assert verdict(Bound(peer="ms-swift", wall=0.8, processor=0.8), runs).endswith("memory 2.00")


def test_what_a_program_printed_last_is_read() -> None:
    assert read_told('log\n{"losses": [4.5, 4.1]}\nmore log\n')["losses"] == [4.5, 4.1]
    assert read_told("Train: 100%|{'loss': '4.605', 'token_acc': '0.27'}\n{'loss': '4.5'}")["losses"] == [4.605, 4.5]
    assert read_told("nothing")["losses"] == []


def test_every_case_has_whole_steps_of_whole_passes() -> None:
    for case in CASES:
        assert len(case.rows()) % case.batch_size == 0
        assert case.batch_size % case.micro_rows == 0
