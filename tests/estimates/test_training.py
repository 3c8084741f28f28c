"""Estimates of training jobs: what makes them larger, what fits, and what would make it fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engines.hardware.machine import GB
from estimates.corrections import Measurement
from estimates.data_shape import DataShape, RowLength
from estimates.devices import ComputeDevice, bytes_of, known_device
from estimates.errors import EstimateError
from estimates.model_config import ModelConfig, model_config
from estimates.training import TrainingEstimate, estimate_training
from registry.contracts.fine_tune_spec import FineTuneSpec
from tests.estimates.models import CPU, SEVEN_B, smol, spec_of

ROWS = DataShape.even(100, 256)


def peak(spec: FineTuneSpec, shape: DataShape = ROWS) -> int:
    return estimate_training(smol(), spec, shape, CPU).peak_bytes


def seven_b(spec: FineTuneSpec, device: ComputeDevice) -> TrainingEstimate:
    return estimate_training(model_config("7b", SEVEN_B), spec, DataShape.even(100, 1024), device)


def test_parts_add_up_to_the_peak() -> None:
    made = estimate_training(smol(), spec_of(batch_size=4), ROWS, CPU)
    assert made.phase == "training"
    assert sum(made.parts.values()) == made.peak_bytes
    assert {"process", "weights", "adapter", "gradients", "optimizer", "activations", "logits"} <= set(made.parts)


def test_what_takes_more_memory_is_estimated_as_more() -> None:
    plain = peak(spec_of(batch_size=4))
    assert peak(spec_of(batch_size=8)) > plain
    assert peak(spec_of(batch_size=4, lora_rank=64)) > plain
    assert peak(spec_of(batch_size=4), DataShape.even(100, 512)) > plain
    assert peak(spec_of(batch_size=4, weights="full")) > plain
    assert peak(spec_of("dpo", batch_size=4), DataShape.even(100, 256, answers=2)) > plain
    assert peak(spec_of(batch_size=4, gradient_checkpointing=True)) < plain
    assert peak(spec_of(batch_size=4, micro_batch_size=1)) < plain


def test_rows_that_a_job_leaves_out_or_cuts_count_as_it_trains_on_them() -> None:
    short, long = RowLength(40, (20,)), RowLength(40, (3000,))
    mixed = DataShape(rows=100, sample=(short,) * 4 + (long,))
    fitting = DataShape(rows=80, sample=(short,) * 4)
    spec = spec_of(batch_size=4, max_length=128)
    dropped, alone = (estimate_training(smol(), spec, shape, CPU) for shape in (mixed, fitting))
    assert (dropped.peak_bytes, dropped.steps) == (alone.peak_bytes, alone.steps)
    cut = peak(spec_of(batch_size=4, max_length=128, unfit_rows="cut"), mixed)
    assert alone.peak_bytes < cut < peak(spec_of(batch_size=4, max_length=4096), mixed)


def test_a_batch_beyond_the_rows_of_a_pass_takes_no_more_memory() -> None:
    assert peak(spec_of(batch_size=64)) == peak(spec_of(batch_size=8))


def test_a_batch_has_no_more_rows_than_the_file() -> None:
    few = DataShape.even(3, 256)
    eight, three = (estimate_training(smol(), spec_of(batch_size=size), few, CPU) for size in (8, 3))
    assert (eight.peak_bytes, eight.seconds, eight.steps) == (three.peak_bytes, three.seconds, three.steps)
    assert eight.largest_batch == estimate_training(smol(), spec_of(batch_size=8), ROWS, CPU).largest_batch


def test_the_largest_sizes_fit_and_the_next_ones_do_not() -> None:
    device = replace(CPU, memory_bytes=4 * GB)
    made = estimate_training(smol(), spec_of(batch_size=4), ROWS, device)
    rows, length = made.largest_batch, made.largest_length

    def fits(spec: FineTuneSpec, shape: DataShape) -> bool:
        return estimate_training(smol(), spec, shape, device).fits

    assert fits(spec_of(batch_size=rows, micro_batch_size=rows), ROWS)
    assert not fits(spec_of(batch_size=rows + 1, micro_batch_size=rows + 1), ROWS)
    assert fits(spec_of(batch_size=4), ROWS.cut(length))
    assert not fits(spec_of(batch_size=4), ROWS.cut(length + 1))


def test_the_cheapest_change_keeps_the_result_where_it_can() -> None:
    made = seven_b(spec_of(batch_size=8), known_device("rtx4090"))
    assert not made.fits
    assert made.change is not None
    assert made.change.keeps_result
    changed = seven_b(spec_of(batch_size=8, **made.change.hyperparameters), known_device("rtx4090"))
    assert changed.fits


def test_where_no_setting_helps_a_device_is_named() -> None:
    made = seven_b(spec_of(batch_size=1, weights="qlora"), replace(known_device("t4"), memory_bytes=4 * GB))
    assert not made.fits
    assert made.change is not None
    assert (made.change.device, dict(made.change.hyperparameters)) == ("a10", {})


def test_more_processes_than_devices_do_not_fit() -> None:
    spec = spec_of(batch_size=4, processes=4, parallelism="fsdp2")
    assert not seven_b(spec, known_device("2xh100")).fits
    assert seven_b(spec, known_device("4xh100")).fits


def test_processes_on_a_processor_share_its_memory() -> None:
    assert peak(spec_of(batch_size=4, processes=2)) > 1.5 * peak(spec_of(batch_size=2))


def test_finished_jobs_of_a_like_size_correct_the_next_one() -> None:
    plain = estimate_training(smol(), spec_of(batch_size=4), ROWS, CPU)
    took = Measurement(
        estimated_bytes=plain.peak_bytes,
        peak_bytes=round(1.2 * plain.peak_bytes),
        estimated_s=plain.seconds,
        seconds=3 * plain.seconds,
    )
    corrected = estimate_training(smol(), spec_of(batch_size=4), ROWS, CPU, [took])
    assert corrected.peak_bytes == pytest.approx(1.2 * plain.peak_bytes, rel=1e-6)
    assert corrected.seconds == pytest.approx(3 * plain.seconds)
    assert (corrected.correction.jobs, corrected.uncorrected_bytes) == (1, plain.peak_bytes)
    unlike = replace(took, estimated_bytes=3 * took.estimated_bytes, estimated_s=took.estimated_s / 3)
    assert estimate_training(smol(), spec_of(batch_size=4), ROWS, CPU, [unlike]).correction.jobs == 0


def test_a_target_that_the_model_lacks_is_named_with_those_it_has() -> None:
    with pytest.raises(EstimateError, match=r"'c_attn'.*q_proj"):
        peak(spec_of(batch_size=4, target_modules=["c_attn"]))


@pytest.mark.parametrize(("text", "size"), [("24GiB", 24 * 2**30), ("80 gb", 80 * GB), ("0.5TB", 500 * GB)])
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["24", "GiB", "-1GB", "0GB", "9999999TB", "nan GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(EstimateError, match="24GiB"):
        bytes_of(text)


def test_an_unknown_device_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EstimateError, match="a100-80"):
        known_device("a100")


def test_a_model_of_no_layers_that_are_adapted_needs_no_adapter() -> None:
    model: ModelConfig = smol()
    full = estimate_training(model, spec_of(batch_size=2, weights="full"), ROWS, CPU)
    assert "adapter" not in full.parts
    assert full.parts["gradients"] == 4 * model.parameters
    assert full.parts["optimizer"] == 8 * model.parameters


def test_validation_adds_its_forward_passes_to_the_time() -> None:
    def seconds(spec: FineTuneSpec, validation_rows: int) -> float:
        return estimate_training(smol(), spec, replace(ROWS, validation_rows=validation_rows), CPU).seconds

    spec = spec_of(batch_size=4, n_epochs=2, checkpoint_steps=10_000)
    alone, few, many = (seconds(spec, rows) for rows in (0, 100, 200))
    # A row is measured twice with one forward pass, and learnt twice with one forward and about one backward.
    step_s = estimate_training(smol(), spec, ROWS, CPU).step_s
    assert many - few == pytest.approx(2 * 100 / 4 * step_s / 2, rel=0.05)
    assert few - alone > many - few, "batches of the validation file are measured in between"
    often = spec_of(batch_size=4, n_epochs=2, checkpoint_steps=5)
    assert seconds(often, 100) > few
