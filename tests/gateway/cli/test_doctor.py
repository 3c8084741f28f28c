"""`lorry doctor` and `lorry envs` report on a machine and exit with the right code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from engines.environments.pinned_list import list_digest, list_path
from engines.environments.record import EnvironmentRecord, environment_folder, write_record
from engines.hardware.wishes import Wishes
from engines.tools import TOOLS
from gateway.cli.doctor import as_document, find
from gateway.cli.envs import variant_of
from tests.engines.hardware.machines import MACHINES, SEVEN_B, SEVENTY_TWO_B
from tests.gateway.cli.lorry_command import run_lorry


def lorry(home: Path, *words: str, code: int = 0) -> str:
    output, errors = run_lorry(*words, code=code, LORRY_HOME=str(home))
    return output if code == 0 else output + errors


def install(home: Path, kind: str, *, variant: str = "cpu", digest: str | None = None) -> None:
    """A record as a finished build leaves it."""
    environment_folder(home, kind).mkdir(parents=True)
    of_today = list_digest(list_path(kind, variant))
    record = EnvironmentRecord(
        kind=kind, variant=variant, digest=digest or of_today, version="9.9", size_bytes=1_500_000_000
    )
    write_record(home, record)


def test_doctor_says_what_would_serve_a_model_and_why(tmp_path: Path, model_folder: Path) -> None:
    said = lorry(tmp_path, "doctor", "--model", str(model_folder), "--engine", "transformers")
    for part in (
        "processor",
        sys.version.split()[0],
        "lmdeploy",
        "absent",
        "0.13 billion parameters",
        "fp32",
        "would fit",
    ):
        assert part in said
    document = json.loads(
        lorry(
            tmp_path, "doctor", "--model", str(model_folder), "--engine", "transformers", "--context", "512", "--json"
        )
    )
    assert document["model"]["parameters"] == 134_515_008
    assert document["parsers"] is None
    assert document["choice"]["settings"]["max_context"] == document["choice"]["context"] == 512
    # 30 layers x 3 heads x 64 x 2 x 4 bytes
    assert document["choice"]["kv_bytes_per_token"] == 46_080
    assert len(document["choice"]["reasons"]) == 5
    assert document["hardware"]["processor"]["memory_bytes"] > 0
    assert document["interpreter"]["version"] in sys.version
    assert [environment["state"] for environment in document["environments"]] == ["absent"] * 3


@pytest.mark.long
def test_doctor_exits_with_1_when_nothing_can_serve(tmp_path: Path, model_folder: Path) -> None:
    words = ("doctor", "--model", str(model_folder), "--engine", "transformers", "--precision", "int4")
    assert "int4 needs a checkpoint of 4-bit weights" in lorry(tmp_path, *words, code=1)
    document = json.loads(lorry(tmp_path, *words, "--json", code=1))
    assert document["choice"] is None
    assert "int4" in document["refusal"]
    assert "no such folder" in lorry(tmp_path, "doctor", "--model", str(tmp_path / "absent"), code=1)
    lorry(tmp_path, "doctor", "--precision", "int3", code=2)


def test_doctor_tells_what_another_environment_would_bring() -> None:
    found = find(MACHINES["H100"], SEVEN_B, Wishes(ready=frozenset()))
    assert found.choice is not None
    assert found.better is not None
    assert (found.choice.kind, found.better.kind, found.better.hardware) == ("transformers", "vllm", "nvidia")
    there = find(MACHINES["H100"], SEVEN_B, Wishes(ready=frozenset({("vllm", "nvidia")})))
    assert there.choice == found.better
    assert there.better is None


@pytest.mark.parametrize("where", MACHINES)
def test_every_finding_is_json(where: str) -> None:
    for model in (SEVEN_B, SEVENTY_TWO_B):
        found = find(MACHINES[where], model, Wishes())
        document: dict[str, Any] = json.loads(json.dumps(as_document(found)))
        assert (document["choice"] is None) == bool(document["refusal"])


def test_environments_are_listed_with_their_state(tmp_path: Path) -> None:
    install(tmp_path, "vllm")
    install(tmp_path, "sglang", digest="another")
    environment_folder(tmp_path, "lmdeploy").mkdir(parents=True)
    listed = json.loads(lorry(tmp_path, "envs", "list", "--json"))
    states = {entry["kind"]: (entry["variant"], entry["version"], entry["state"]) for entry in listed}
    assert states == {
        "vllm": ("cpu", "9.9", "ready"),
        "sglang": ("cpu", "9.9", "outdated"),
        "lmdeploy": (None, None, "partial"),
        **{tool: (None, None, "absent") for tool in TOOLS},
    }
    assert "1.5" in lorry(tmp_path, "envs", "list")
    assert f"Removed {environment_folder(tmp_path, 'lmdeploy')}" in lorry(tmp_path, "envs", "remove", "lmdeploy")
    assert "There is no environment for lmdeploy" in lorry(tmp_path, "envs", "remove", "lmdeploy")
    assert "'steam' is not one of" in lorry(tmp_path, "envs", "remove", "steam", code=1)


def test_what_cannot_be_installed_is_refused_in_a_line(tmp_path: Path) -> None:
    assert "rocm/vllm" in lorry(tmp_path, "envs", "install", "vllm", "--variant", "amd", code=1)
    assert "'llamacpp' is not one of" in lorry(tmp_path, "envs", "install", "llamacpp", code=1)
    assert "lmdeploy-amd" in lorry(tmp_path, "envs", "install", "vllm", "--variant", "tpu", code=1)


def test_without_a_variant_it_is_that_of_the_machine() -> None:
    found = {where: variant_of("vllm", machine) for where, machine in MACHINES.items()}
    assert {found[where] for where in ("T4", "8xH100")} == {"nvidia"}
    assert (found["MI300X"], found["910B"], found["CPU"], found["Apple"]) == ("amd", "ascend", "cpu", "cpu")
    assert variant_of("quantize", MACHINES["MI300X"]) == "cpu"  # there is no list of this tool for it
