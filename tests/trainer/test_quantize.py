"""A quantization: from a model to a checkpoint with its scores, or to the numbers for which the gate refused it.

The GGUF schemes run in Lorry's own environment. Those of llm-compressor need the environment of the tool `quantize`:
`make quantize-test`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from engines.environments.record import environment_folder
from registry.artifacts import folder_digest
from registry.contracts.quantizations.quantization_report import TEXTS, QuantizationReport
from registry.contracts.quantizations.quantize_spec import QuantizeSpec
from registry.contracts.quantizations.schemes import Scheme
from registry.database import Registry
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.types import Base
from tests.engines.random_adapter import write_adapter
from tests.exports.gguf.tiny_models import save_tiny
from tests.trainer.attempts import messages, work
from tests.trainer.forks.forked_children import ForkedChildren
from tests.trainer.tiny_base import write_chats
from trainer.settings import TrainerSettings

pytestmark = pytest.mark.trains

TOOLS = Path(os.environ.get("LORRY_TEST_ENVS") or Path(sys.prefix).parent / ".envs")
COMPRESSED = (Scheme.W4A16_GPTQ, Scheme.W4A16_AWQ, Scheme.W8A8_INT8, Scheme.FP8)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose tokenizer has merges, as GGUF files need, in place of the usual one."""
    folder = tmp_path_factory.mktemp("quantizable")
    save_tiny(folder, "llama")
    (folder / "LICENSE").write_text("Do what you like.")
    return folder


@pytest.fixture(scope="session")
def tiny_digest(tiny_base: Path) -> str:
    """The digest of that model: pytest keeps the usual model's for the whole session."""
    return folder_digest(tiny_base)


def quantize(
    registry: Registry, settings: TrainerSettings, home: Path, forks: ForkedChildren | None = None, **changes: Any
) -> Job:
    """Make an attempt at the job, by a fork where there are *forks*, and return it ended."""
    lines = write_chats(home / "rows.jsonl").read_bytes()
    file = registry.files.add([lines], filename="rows.jsonl", purpose="fine-tune", owner="ann")
    base = registry.bases.get("tiny")
    fields: dict[str, Any] = {
        "base": base.name,
        "base_digest": base.digest,
        "adapter": "small",
        "source": "tiny",
        "scheme": Scheme.GGUF_Q8,
        "calibration_file": file.id,
        "samples": 8,
        "max_length": 64,
        "seed": 7,
        "max_rise": 0.2,
    }
    job = registry.jobs.create(QuantizeSpec(**(fields | changes)), "ann")
    if forks is None:
        work(registry, settings)
    else:
        forks.work(registry, settings)
    return registry.jobs.get(job.id)


def checkpoint_of(registry: Registry, job: Job) -> Base:
    assert (job.state, job.error) == (JobState.SUCCEEDED, None), messages(registry, job.id)
    return registry.bases.get(str(job.fine_tuned_model))


def test_a_model_becomes_a_smaller_checkpoint_with_scores_and_lineage_and_the_same_bytes_again(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, home: Path
) -> None:
    made = checkpoint_of(registry, quantize(registry, settings, home, forks))
    assert (made.name, made.parent) == ("small-1", "tiny")
    assert folder_digest(Path(made.path)) == made.digest
    assert {"model.gguf", "config.json", "tokenizer.json", "LICENSE"} <= {
        path.name for path in Path(made.path).iterdir()
    }
    kept = made.provenance
    assert (kept["source"], kept["made_from"], kept["scheme"], kept["seed"]) == ("quantize", "tiny", "gguf-q8", 7)
    assert "adapter" not in kept
    assert kept["calibration"]["filename"] == "rows.jsonl"
    assert len(kept["calibration"]["sha256"]) == 64
    assert {"gguf", "torch", "transformers"} <= set(kept["versions"])
    report = QuantizationReport.model_validate(kept["quantization"])
    assert set(report.perplexity) == set(TEXTS)
    assert report.gate.passed
    assert report.size_bytes < report.base_size_bytes
    assert 8 < report.bits_per_weight < 32
    assert report.agreement > 0.9
    assert (report.samples, report.scored_rows) == (8, 2)
    again = checkpoint_of(registry, quantize(registry, settings, home, forks))
    assert (again.name, again.digest) == ("small-2", made.digest)


def test_the_gate_publishes_nothing_and_keeps_the_numbers_unless_it_is_waived(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, home: Path
) -> None:
    # An answer to any text that rises at all is refused, and 4 bits change every perplexity.
    refused = quantize(registry, settings, home, forks, scheme=Scheme.GGUF_Q4, max_rise=0.0)
    reports = [event.data["quantization"] for event in registry.jobs.events(refused.id) if "quantization" in event.data]
    report = QuantizationReport.model_validate(reports[0])
    assert report.gate.refused
    assert refused.state is JobState.FAILED
    assert refused.error is not None
    assert (refused.error.code, refused.error.param) == ("quality_gate", "max_rise")
    for name in report.gate.refused:
        assert f"{report.perplexity[name].after:.2f}" in refused.error.message
    assert [base.name for base in registry.bases.list()] == ["tiny"]
    waived = quantize(registry, settings, home, forks, scheme=Scheme.GGUF_Q4, max_rise=0.0, waived=TEXTS)
    assert checkpoint_of(registry, waived).provenance["quantization"]["gate"]["waived"] == list(TEXTS)


def test_an_adapter_is_merged_into_its_base_first(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, home: Path, tiny_base: Path
) -> None:
    adapter = write_adapter(home / "brought", tiny_base, seed=1, rank=4, strength=0.3)
    with registry.artifacts.publishing() as staging:
        digest = staging.put_folder(adapter)
        with staging.committing() as install:
            install(None)
    made = checkpoint_of(registry, quantize(registry, settings, home, forks, source="support@1", artifact=digest))
    assert made.provenance["adapter"] == {"name": "support@1", "artifact": digest}
    assert made.provenance["merge"]["same_best_tokens"] > 0
    assert registry.artifacts.has_folder(digest), "the adapter's folder is not the job's own"


def test_a_worker_without_the_tool_fails_the_job_with_the_command_that_installs_it(
    registry: Registry, settings: TrainerSettings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORRY_HOME", str(home))
    error = quantize(registry, settings, home, scheme=Scheme.W8A8_INT8).error
    assert error is not None
    assert (error.code, "lorry envs install quantize" in error.message) == ("tool_missing", True)


def test_a_checkpoint_that_no_engine_of_its_pools_answers_by_is_not_published_unless_that_is_waived(
    registry: Registry, settings: TrainerSettings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORRY_HOME", str(home))
    # The gateway refuses a GGUF file for a pool. Here its load test comes to the engine, which finds no weights.
    asked: dict[str, Any] = {"pools": ("a", "b"), "engines": ("transformers", "vllm")}
    refused = quantize(registry, settings, home, **asked)
    assert refused.error is not None
    assert (refused.error.code, refused.error.param) == ("load_test_failed", "pools"), refused.error
    assert "transformers failed: " in refused.error.message
    assert "vllm" not in refused.error.message, "that this machine lacks an environment says nothing of the checkpoint"
    assert [base.name for base in registry.bases.list()] == ["tiny"]
    report = next(event.data["quantization"] for event in registry.jobs.events(refused.id) if event.data)
    found = {kind: each["outcome"] for kind, each in report["load_tests"].items()}
    assert found == {"transformers": "failed", "vllm": "not_installed"}
    waived = checkpoint_of(registry, quantize(registry, settings, home, **asked, waived=("load-test",))).provenance
    assert waived["quantization"]["gate"]["waived"] == ["load-test"]
    assert {kind: each["outcome"] for kind, each in waived["load_tests"].items()} == found


@pytest.mark.quantize
@pytest.mark.parametrize("scheme", COMPRESSED)
def test_llm_compressor_makes_a_checkpoint_of_every_scheme(
    registry: Registry, settings: TrainerSettings, home: Path, scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORRY_HOME", str(home))
    environment_folder(home, "quantize").parent.mkdir()
    environment_folder(home, "quantize").symlink_to(environment_folder(TOOLS, "quantize"))
    group = 32 if scheme in {Scheme.W4A16_GPTQ, Scheme.W4A16_AWQ} else None
    asked: dict[str, Any] = {"scheme": scheme, "group_size": group, "engines": ("transformers", "vllm")}
    # Random weights hardly prefer one token to another: with 4 bits their answers begin otherwise.
    made = checkpoint_of(registry, quantize(registry, settings, home, **asked, waived=("load-test",)))
    tried = made.provenance["load_tests"]
    assert tried["vllm"]["outcome"] == "not_installed"
    assert tried["transformers"]["outcome"] in {"served", "differs"}, tried["transformers"]["reason"]
    assert tried["transformers"]["tokens_per_s"] > 0
    assert (Path(made.path) / "LICENSE").is_file()
    stated = json.loads((Path(made.path) / "config.json").read_text())["quantization_config"]
    assert stated["quant_method"] == "compressed-tensors"
    report = QuantizationReport.model_validate(made.provenance["quantization"])
    assert report.linear_bits_per_weight is not None
    assert report.linear_bits_per_weight < 10
    assert "llmcompressor" in made.provenance["versions"]
    if scheme is Scheme.W8A8_INT8:
        again = checkpoint_of(registry, quantize(registry, settings, home, **asked, waived=("load-test",)))
        assert again.digest == made.digest
