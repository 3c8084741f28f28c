"""`lorry up --engine auto` chooses by the machine where nobody has chosen, and never on a plain CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engines.environments.record import EnvironmentRecord, environment_folder, write_record
from engines.errors import DoesNotFit, EnvironmentMissing
from engines.hardware.machine import Machine
from gateway.engines_settings import PoolSettings
from gateway.pools.engine_choice import chosen_pool
from gateway.pools.pools import engine_settings
from gateway.up.flags import source_of
from registry.types import Base
from tests.engines.hardware.machines import MACHINES, machine, nvidia


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORRY_HOME", str(tmp_path))
    monkeypatch.delenv("LORRY_CONFIG", raising=False)
    return tmp_path


def pool_of(engine: str) -> PoolSettings:
    """The pool of `lorry up --engine` with nothing else said."""
    (pool,) = source_of(None, None, engine).load().engines.pools
    return pool


def chosen(pool: PoolSettings, home: Path, folder: Path, hardware: Machine) -> PoolSettings:
    return chosen_pool(pool, home, folder, lambda: hardware)[0]


def test_a_plain_cpu_keeps_the_transformers_engine_and_its_sizes(home: Path, model_folder: Path) -> None:
    pool = pool_of("auto")
    for where in ("CPU", "Apple"):
        assert chosen(pool, home, model_folder, MACHINES[where]) == pool
    assert pool.kind == "transformers"


def test_an_accelerator_with_its_environment_gets_the_engine_that_suits_it(home: Path, model_folder: Path) -> None:
    environment_folder(home, "vllm").mkdir(parents=True)
    write_record(home, EnvironmentRecord(kind="vllm", variant="nvidia", digest="x", version="1"))
    pool, choice = chosen_pool(pool_of("auto"), home, model_folder, lambda: MACHINES["H100"])
    assert choice is not None
    assert pool.kind == "vllm"
    fields: dict[str, Any] = pool.engine
    assert (fields["hardware"], fields["precision"], fields["max_context"]) == ("nvidia", "bf16", 8192)


def test_without_an_environment_the_cpu_serves(home: Path, model_folder: Path) -> None:
    assert chosen(pool_of("auto"), home, model_folder, MACHINES["H100"]).kind == "transformers"


def test_what_was_asked_for_goes_over_what_was_chosen(home: Path, model_folder: Path, tmp_path: Path) -> None:
    asked = pool_of("transformers")
    assert chosen(asked, home, model_folder, MACHINES["H100"]) == asked

    pool = pool_of("auto").model_copy(update={"engine": {"max_context": 512}})
    sized = chosen(pool, home, model_folder, MACHINES["H100"])
    assert (sized.engine["max_context"], sized.engine["max_batch"]) == (512, 16)


def test_a_model_that_does_not_fit_is_refused_with_the_numbers(home: Path, model_folder: Path) -> None:
    environment_folder(home, "vllm").mkdir(parents=True)
    write_record(home, EnvironmentRecord(kind="vllm", variant="nvidia", digest="x", version="1"))
    tiny = machine(nvidia("one with 2 GiB", 2048, 8, 0))
    with pytest.raises(DoesNotFit, match=r"1 x 2\.1 GB"):
        chosen(pool_of("auto"), home, model_folder, tiny)


def test_a_replica_chooses_by_the_devices_that_are_reserved_for_it(home: Path, model_folder: Path) -> None:
    environment_folder(home, "vllm").mkdir(parents=True)
    write_record(home, EnvironmentRecord(kind="vllm", variant="nvidia", digest="x", version="1"))
    two = machine(nvidia("one with 2 GiB", 2048, 8, 0), nvidia("one with 2 GiB", 2048, 8, 0))
    for gpus, sizes in ((1.0, r"1 x 2\.1 GB"), (0.5, r"1 x 1\.1 GB")):
        with pytest.raises(DoesNotFit, match=sizes):
            chosen(pool_of("auto").model_copy(update={"gpus": gpus}), home, model_folder, two)


def test_an_engine_without_its_environment_says_what_to_run(home: Path, model_folder: Path) -> None:
    base = Base(name="b", path=str(model_folder), digest="0" * 64, licence="x", created_at=0.0)
    with pytest.raises(EnvironmentMissing, match="`lorry envs install sglang`"):
        engine_settings(pool_of("sglang"), home, base)
