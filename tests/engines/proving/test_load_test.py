"""Answers of a checkpoint beside those of its model, and the settings of the engines that are tried."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from engines.environments.record import EnvironmentRecord, environment_folder, write_record
from engines.errors import EnvironmentMissing
from engines.kinds import Hardware
from engines.proving.load_test import PROMPTS, Answers, Outcome, compared
from engines.proving.trials import Tried, trial_settings, trials
from registry.contracts.quantizations.load_test_result import LoadTestOutcome, LoadTestResult
from tests.engines.hardware.machines import MACHINES
from tests.exports.gguf.tiny_models import save_tiny


def answers(*texts: str) -> Answers:
    """The same texts in turn for all prompts."""
    turned = tuple(texts[at % len(texts)] for at in range(len(PROMPTS)))
    return Answers(texts=turned, ready_s=2.04, memory_bytes=10**9, tokens_per_s=40.0, loaded_tokens_per_s=90.0)


def test_answers_that_go_on_otherwise_are_those_of_a_quantized_model() -> None:
    found = compared("vllm", answers("The sky is grey"), answers("The sky is blue"))
    assert (found.outcome, found.reason) == (Outcome.SERVED, "")
    assert (found.same_beginnings, found.same_answers, found.common_words) == (len(PROMPTS), 0, 0.75)
    assert found.ready_s == 2.0


def test_answers_that_begin_otherwise_are_those_of_another_model() -> None:
    found = compared("vllm", answers("!!!! the the"), answers("The sky is blue"))
    assert found.outcome is Outcome.DIFFERS
    assert "0 of 8 answers begin with the same word" in found.reason
    assert "'!!!! the the', it was 'The sky is blue'" in found.reason
    assert compared("vllm", answers(""), answers("Yes")).outcome is Outcome.DIFFERS


def test_the_trainer_reads_every_field_that_the_program_writes() -> None:
    found = asdict(compared("vllm", answers("a b"), answers("a c")))
    assert set(found) | {"at"} == set(LoadTestResult.model_fields)
    assert LoadTestResult.model_validate(found).model_dump(exclude={"at"}) == found
    assert {each.value for each in Outcome} == {each.value for each in LoadTestOutcome}


def tried(tmp_path: Path, *kinds: str) -> Tried:
    return Tried(kinds=kinds, checkpoint=tmp_path, original=tmp_path, home=tmp_path / "home", logs=tmp_path)


def test_what_is_not_installed_is_named_with_its_command(tmp_path: Path) -> None:
    (found,) = trials(tried(tmp_path, "vllm"), lambda: MACHINES["CPU"])
    assert found.outcome is Outcome.NOT_INSTALLED
    assert "lorry envs install vllm" in found.reason


def test_what_an_engine_does_not_serve_is_refused_before_a_server_starts(tmp_path: Path) -> None:
    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 64, "model_type": "llama"}
    config = shape | {"quantization_config": {"quant_method": "exl3"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (found,) = trials(tried(tmp_path, "transformers"), lambda: MACHINES["CPU"])
    assert found.outcome is Outcome.REFUSED
    assert "other weights (exl3)" in found.reason
    assert list(tmp_path.glob("*.log")) == []


def test_an_engine_is_tried_on_the_accelerators_that_its_pool_would_have(tmp_path: Path) -> None:
    base_folder = tmp_path / "base"
    save_tiny(base_folder, "llama")
    asked = tried(tmp_path, "vllm")
    with pytest.raises(EnvironmentMissing):
        trial_settings("vllm", base_folder, asked, MACHINES["H100"])
    environment_folder(asked.home, "vllm").mkdir(parents=True)
    record = EnvironmentRecord(kind="vllm", variant="nvidia", digest="d", is_installed=True, version="0.32.0")
    write_record(asked.home, record)
    found = trial_settings("vllm", base_folder, asked, MACHINES["H100"])
    assert (found.hardware, found.max_adapters, found.max_context) == (Hardware.NVIDIA, 0, 512)
    assert trial_settings("vllm", base_folder, asked, MACHINES["CPU"]).hardware is Hardware.CPU
    assert trial_settings("transformers", base_folder, asked, MACHINES["H100"]).hardware is Hardware.CPU
