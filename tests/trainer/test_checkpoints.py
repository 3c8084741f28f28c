"""A checkpoint counts only if it is complete and fits the job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.checkpoints import (
    SEAL,
    find_last_whole,
    prune_checkpoints,
    remove_checkpoints,
    seal_checkpoint,
)


def write(job: Path, attempt: int, step: int, *, identity: str = "spec", seal: bool = True) -> Path:
    folder = job / f"attempt-{attempt}" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights" * step)
    (folder / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    if seal:
        seal_checkpoint(folder, identity, step, {"train_loss": 1.5})
    return folder


def test_the_furthest_whole_checkpoint_of_all_attempts_is_found(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    furthest = write(tmp_path, 1, 10)
    write(tmp_path, 2, 4)
    found = find_last_whole(tmp_path, "spec")
    assert found is not None
    assert (found.folder, found.step, found.metrics) == (furthest, 10, {"train_loss": 1.5})


def test_a_checkpoint_without_its_seal_does_not_count(tmp_path: Path) -> None:
    whole = write(tmp_path, 1, 2)
    write(tmp_path, 1, 4, seal=False)
    found = find_last_whole(tmp_path, "spec")
    assert found is not None
    assert found.folder == whole
    assert find_last_whole(tmp_path / "other", "spec") is None


@pytest.mark.parametrize("harm", ["truncate", "change", "remove", "add", "seal"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, harm: str) -> None:
    whole, damaged = write(tmp_path, 1, 2), write(tmp_path, 1, 4)
    weights = damaged / "adapter_model.safetensors"
    harms: dict[str, Callable[[], object]] = {
        "truncate": lambda: weights.write_bytes(weights.read_bytes()[:-1]),
        "change": lambda: weights.write_bytes(weights.read_bytes()[:-1] + b"x"),
        "remove": weights.unlink,
        "add": lambda: (damaged / "more.bin").write_bytes(b"x"),
        "seal": lambda: (damaged / SEAL).write_text('{"identity"'),
    }
    harms[harm]()
    found = find_last_whole(tmp_path, "spec")
    assert found is not None
    assert found.folder == whole


def test_a_checkpoint_of_another_spec_or_base_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, identity="another")
    assert find_last_whole(tmp_path, "spec") is None


def test_pruning_keeps_the_furthest(tmp_path: Path) -> None:
    for step in (2, 10, 4):
        write(tmp_path, 1, step)
    prune_checkpoints(tmp_path / "attempt-1", keep=2)
    assert sorted(path.name for path in (tmp_path / "attempt-1").iterdir()) == ["checkpoint-10", "checkpoint-4"]


def test_an_ended_job_keeps_its_logs_only(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    (tmp_path / "attempt-1" / "final").mkdir()
    (tmp_path / "attempt-1" / "child.log").write_text("said")
    remove_checkpoints(tmp_path)
    assert [path.name for path in (tmp_path / "attempt-1").iterdir()] == ["child.log"]
