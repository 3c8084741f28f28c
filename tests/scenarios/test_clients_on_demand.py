"""Clients and benchmarks for which continuous integration has no time, against one Lorry: `make clients`.

Their data sets are files of the test, as a hub is nowhere asked.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.engines_settings import BUNDLED_BASE
from tests.contract.kinds import interpreter_of
from tests.scenarios.test_clients import PROGRAMS, config_of, python_of, walk
from tests.scenarios.test_sdk_walks import run_program
from tests.up_process import Up

pytestmark = [pytest.mark.scenario, pytest.mark.clients]

CITIES: Final = ("Paris", "Rome", "Oslo")
COUNTRIES: Final = ("France", "Italy", "Norway")
REQUESTS: Final = 6
VLLM_BENCH: Final = """
import argparse, sys
from vllm.benchmarks import serve
parser = argparse.ArgumentParser()
serve.add_cli_args(parser)
serve.main(parser.parse_args(sys.argv[1:]))
"""
"""`vllm bench serve`, which the wheel for CPUs does not start: it asks for the version of a package of another name."""
TASK: Final[dict[str, Any]] = {
    "dataset_path": "json",
    "test_split": "test",
    "doc_to_text": "{{question}}",
}
TASKS: Final[dict[str, dict[str, Any]]] = {
    "capitals_ranked": {
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}],
    },
    "capitals_said": {
        "output_type": "generate_until",
        "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, encoder_folder: Path) -> str:
    folder = tmp_path_factory.mktemp("models")
    (folder / BUNDLED_BASE).symlink_to(model_folder)
    return config_of(folder, folder / BUNDLED_BASE, encoder_folder)


def test_dspy(up: Up) -> None:
    assert walk(up, python_of("dspy"), str(PROGRAMS / "dspy_walk.py")) == ("chat", "structured")


def test_llama_index(up: Up) -> None:
    told = walk(up, python_of("llama-index"), str(PROGRAMS / "llama_index_walk.py"))
    assert told == ("chat", "completion", "structured")


def test_lm_eval_ranks_by_log_likelihood_and_generates(up: Up, tmp_path: Path, model_folder: Path) -> None:
    rows = [
        {"question": f"The capital of {country} is", "choices": CITIES, "answer": place}
        for place, country in enumerate(COUNTRIES)
    ]
    data = tmp_path / "capitals.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, task in TASKS.items():
        own = {"task": name, "dataset_kwargs": {"data_files": {"test": str(data)}}}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(TASK | task | own))
    model = f"model={BUNDLED_BASE},base_url={up.url}/v1/completions,tokenizer={model_folder},max_length=2048"
    run_program(
        *(python_of("lm-eval"), "-m", "lm_eval", "run", "--model", "local-completions", "--model_args", model),
        *("--tasks", ",".join(TASKS), "--include_path", str(tmp_path), "--output_path", str(tmp_path / "out.json")),
        OPENAI_API_KEY="none",
        HF_HUB_OFFLINE="1",
    )
    (report,) = tmp_path.glob("out*.json")
    results = json.loads(report.read_text())["results"]
    assert results["capitals_ranked"]["acc,none"] == 1.0
    assert "exact_match,none" in results["capitals_said"]


def test_evalscope(up: Up, tmp_path: Path) -> None:
    question = {"question": "The capital of France?", "A": "Paris", "B": "Rome", "answer": "A"}
    (tmp_path / "capitals_val.jsonl").write_text(json.dumps(question) + "\n")
    place = {"general_mcq": {"local_path": str(tmp_path), "subset_list": ["capitals"]}}
    run_program(
        *(python_of("evalscope"), "-m", "evalscope.cli.cli", "eval", "--model", BUNDLED_BASE),
        *("--api-url", f"{up.url}/v1", "--api-key", "none", "--eval-type", "openai_api", "--datasets", "general_mcq"),
        *("--dataset-args", json.dumps(place), "--generation-config", json.dumps({"max_tokens": 16})),
        *("--work-dir", str(tmp_path / "work")),
    )
    (report,) = (tmp_path / "work").glob(f"*/reports/{BUNDLED_BASE}/general_mcq.json")
    assert json.loads(report.read_text())["metrics"][0]["num"] == 1


@pytest.mark.parametrize("tool", ["lm-eval", "evalscope"])
def test_lorry_eval_stores_every_answer_of_a_tool(
    up: Up, tmp_path: Path, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "LORRY_HOME", os.environ["LORRY_TEST_ENVS"]
    )  # the command looks for the tools' environment there
    if tool == "lm-eval":
        data = tmp_path / "said.json"
        data.write_text(json.dumps({"question": "Say Paris.", "choices": CITIES, "answer": 0}))
        own = {"task": "capitals_said", "dataset_kwargs": {"data_files": {"test": str(data)}}}
        (tmp_path / "said.yaml").write_text(json.dumps(TASK | TASKS["capitals_said"] | own))
        suite = "lm-eval:capitals_said"
    else:
        question = {"question": "The capital of France?", "A": "Paris", "B": "Rome", "answer": "A"}
        (tmp_path / "capitals_val.jsonl").write_text(json.dumps(question) + "\n")
        suite = "evalscope:general_mcq"
    told = up.lorry("eval", BUNDLED_BASE, "--suite", suite, "--local", str(tmp_path), "--json")
    found = json.loads(told)
    assert (found["state"], found["total"], found["scores"]["overall"]["rows"]) == ("completed", 1, 1)
    assert found["detail"]["metrics"]
    assert "tool_failed" in up.lorry("eval", BUNDLED_BASE, "--suite", f"{tool}:no_such_task", code=1)


def test_guidellm(up: Up, tmp_path: Path, model_folder: Path) -> None:
    report = tmp_path / "guidellm.json"
    run_program(
        *(python_of("guidellm"), "-m", "guidellm", "run", "--disable-progress"),
        *("--backend", f"kind=openai_http,target={up.url},model={BUNDLED_BASE}"),
        *("--profile", "kind=concurrent,streams=2", "--constraint", f"kind=max_requests,count={REQUESTS}"),
        *("--tokenizer", f"kind=hf_auto,model={model_folder}"),
        *("--data", "kind=synthetic_text,prompt_tokens=32,output_tokens=8", "--output", f"kind=json,path={report}"),
    )
    (benchmark,) = json.loads(report.read_text())["benchmarks"]
    assert benchmark["metrics"]["request_totals"]["successful"] >= REQUESTS
    assert benchmark["metrics"]["request_totals"]["errored"] == 0


def test_aiperf(up: Up, tmp_path: Path, model_folder: Path) -> None:
    run_program(
        *(python_of("aiperf"), "-m", "aiperf", "profile", "--model", BUNDLED_BASE, "--url", up.url, "--ui", "none"),
        *("--endpoint-type", "chat", "--streaming", "--request-count", str(REQUESTS), "--concurrency", "2"),
        *("--isl", "32", "--osl", "8", "--tokenizer", str(model_folder), "--artifact-dir", str(tmp_path)),
    )
    report = json.loads((tmp_path / "profile_export_aiperf.json").read_text())
    assert report["request_count"]["avg"] == REQUESTS
    assert not report.get("error_summary")


def test_vllm_bench_serve(up: Up, tmp_path: Path, model_folder: Path) -> None:
    run_program(
        *(str(interpreter_of("vllm")), "-c", VLLM_BENCH, "--backend", "openai-chat", "--base-url", up.url),
        *("--endpoint", "/v1/chat/completions", "--model", BUNDLED_BASE, "--tokenizer", str(model_folder)),
        *("--dataset-name", "random", "--random-input-len", "32", "--random-output-len", "8"),
        *("--num-prompts", str(REQUESTS), "--max-concurrency", "2"),
        *("--save-result", "--result-dir", str(tmp_path), "--result-filename", "bench.json"),
    )
    report = json.loads((tmp_path / "bench.json").read_text())
    assert (report["completed"], report["failed"]) == (REQUESTS, 0)
    assert report["total_output_tokens"] > 0
