"""Unmodified SDKs of OpenAI walk through every fine-tuning call of one Lorry: openai-python 3 and 2, openai-node.

A client that is generated from the OpenAPI description walks through it too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.loopback import LoopbackHandler, LoopbackServer
from tests.scenarios.sdk_walk import CONTENT, SECRET
from tests.trainer.tiny_base import save_base
from tests.up_process import Up
from tests.waiting import wait_for

pytestmark = pytest.mark.scenario

JOB_S = 300.0
LONG_ROWS = 800
"""Steps of an epoch of a job that is still running when its first step has been asked something."""
HERE = Path(__file__).parent
SDKS = Path(os.environ.get("LORRY_TEST_SDKS", Path(sys.prefix).parent / ".sdks"))
"""Where `make sdks` puts the SDKs that the environment does not have."""
CONFIG = """
[gateway]
replicas = 1

[webhooks]
url = "{receiver}/hook"

[[engines.pools]]
name = "small"
base = "{base}"
engine = {{ max_context = 1024 }}
"""


@pytest.fixture(scope="module")
def notices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of what the webhook's receiver got."""
    folder: Path = tmp_path_factory.mktemp("notices")
    return folder / "notices.jsonl"


@pytest.fixture(scope="module")
def receiver(notices: Path) -> Iterator[str]:
    class Handler(LoopbackHandler):
        def do_POST(self) -> None:
            entry = {"headers": self.lower_headers(), "body": self.read_body().decode()}
            with notices.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            self.reply(204)

    server = LoopbackServer(Handler)
    os.environ["LORRY_WEBHOOK_SECRET"] = SECRET
    yield server.url
    del os.environ["LORRY_WEBHOOK_SECRET"]
    server.close()


@pytest.fixture(scope="module")
def settings(receiver: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    base = tmp_path_factory.mktemp("base") / "tiny"
    save_base(base, positions=1024)  # a tool takes some 500 of its tokens, which are bytes
    return CONFIG.format(receiver=receiver, base=base)


def run_program(*command: str, **environment: str) -> str:
    """Run a program, which must succeed; print and return its output."""
    told = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=1000, env=os.environ | environment
    )
    print(told.stdout)  # noqa: T201
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


def place_of(sdk: str) -> Path:
    """Return the folder of an SDK."""
    folder = SDKS / sdk
    if not folder.is_dir():
        pytest.fail(f"no {folder}: `make sdks`, or set LORRY_TEST_SDKS to where they are", pytrace=False)
    return folder


def test_openai_python_3(up: Up, notices: Path) -> None:
    told = run_program(sys.executable, "-P", str(HERE / "sdk_walk.py"), f"{up.url}/v1", "py3", str(notices))
    assert told.startswith("openai-python 3.")


def test_responses_by_openai_python_3(up: Up) -> None:
    told = run_program(sys.executable, "-P", str(HERE / "responses_walk.py"), f"{up.url}/v1", "tiny")
    assert "deleted: 400 previous_response_not_found" in told


def test_a_fine_tuned_model_and_a_step_of_a_running_job_answer_at_once(up: Up) -> None:
    client = openai.OpenAI(base_url=f"{up.url}/v1", api_key="none", max_retries=0)
    fits = {"n_epochs": 3, "batch_size": 1, "lora_rank": 2, "target_modules": ["q_proj", "v_proj"]}

    def create(rows: int, suffix: str) -> FineTuningJob:
        chats = [{"messages": [user(f"say {n}"), {"role": "assistant", "content": f"{n} it is"}]} for n in range(rows)]
        content = "".join(json.dumps(chat) + "\n" for chat in chats).encode()
        file = client.files.create(file=("chats.jsonl", content), purpose="fine-tune")
        body = {"hyperparameters": fits}
        return client.fine_tuning.jobs.create(
            model="tiny", training_file=file.id, suffix=suffix, seed=7, extra_body=body
        )

    def state_of(job: FineTuningJob) -> FineTuningJob:
        return client.fine_tuning.jobs.retrieve(job.id)

    def answers(model: str) -> bool:
        told = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "say 4"}])
        return told.choices[0].finish_reason in ("stop", "length")

    short = create(10, "at-once")
    done = wait_for(lambda: ended if (ended := state_of(short)).finished_at else None, JOB_S)
    assert done is not None
    assert answers(str(done.fine_tuned_model))

    long = create(LONG_ROWS, "on-the-way")

    def first_step() -> str | None:
        for step in client.fine_tuning.jobs.checkpoints.list(long.id):
            if step.to_dict()["lorry"]["state"] == "ready":  # type: ignore[index]
                return step.fine_tuned_model_checkpoint
        assert state_of(long).finished_at is None
        return None

    name = wait_for(first_step, JOB_S)
    assert name == f"ft:tiny:lorry:on-the-way:{long.id[-8:]}:ckpt-step-{LONG_ROWS}"
    assert answers(name)
    assert state_of(long).status == "running"
    assert client.models.retrieve(name).to_dict()["lorry"]["revision"] is None  # type: ignore[index]
    with pytest.raises(openai.NotFoundError, match=f"made by the job {long.id}, which is running"):
        answers(name.partition(":ckpt-step-")[0])
    client.fine_tuning.jobs.cancel(long.id)
    wait_for(lambda: state_of(long).status == "cancelled", JOB_S)
    assert answers(name)
    assert client.models.delete(name).deleted


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_batches_of_openai_python(up: Up) -> None:
    walk = (sys.executable, "-P", str(HERE / "batch_walk.py"), f"{up.url}/v1")
    assert run_program(*walk).startswith("openai-python 3.")
    assert run_program(*walk, PYTHONPATH=str(place_of("openai-2"))).startswith("openai-python 2.")


def test_openai_python_2(up: Up, notices: Path) -> None:
    walk = (sys.executable, "-P", str(HERE / "sdk_walk.py"), f"{up.url}/v1", "py2", str(notices))
    assert run_program(*walk, PYTHONPATH=str(place_of("openai-2"))).startswith("openai-python 2.")


def test_openai_node(up: Up, notices: Path, tmp_path: Path) -> None:
    modules, typed = place_of("node"), tmp_path / "answers.ts"
    run_program("node", str(HERE / "sdk_walk.mjs"), f"{up.url}/v1", "node", str(notices), str(modules), str(typed))
    (tmp_path / "node_modules").symlink_to(modules / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    checks = ("--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022")
    run_program(str(modules / "node_modules" / ".bin" / "tsc"), *checks, str(typed))


def test_a_generated_client(up: Up, tmp_path: Path) -> None:
    description, client, tools = tmp_path / "openapi.json", tmp_path / "lorry_client", str(place_of("openapi"))
    answer = httpx2.get(f"{up.url}/openapi.json", trust_env=False, timeout=60.0)
    description.write_bytes(answer.raise_for_status().content)
    run_program(sys.executable, "-m", "openapi_spec_validator", str(description), PYTHONPATH=tools)
    # The generator formats what it wrote with the ruff that it finds.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    generate = ("generate", "--path", str(description), "--output-path", str(client), "--meta", "none")
    generated = run_program(sys.executable, "-m", "openapi_python_client", *generate, PYTHONPATH=tools, PATH=path)
    assert generated.split() == ["Generating", str(client)], "the generator warns"
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(CONTENT)
    walk = (sys.executable, "-P", str(HERE / "generated_walk.py"), up.url, str(rows))
    assert "@2" in run_program(*walk, PYTHONPATH=f"{tools}:{tmp_path}")
