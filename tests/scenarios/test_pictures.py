"""A model with sight is trained on chats with pictures over OpenAI's API, and vLLM serves the result."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import openai
import pytest

from tests.contract.kinds import link_environments
from tests.scenarios.rollout_clients import Operator
from tests.trainer.tiny_base import save_base
from tests.trainer.tiny_vision import picture, picture_chats, picture_part, save_idefics
from tests.up_process import Up
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.vllm]

SEER: Final = "seer"
BLIND: Final = "blind"
JOB_S: Final = 400.0
CONFIG: Final = """
[registry]
picture_folder = "{pictures}"

[gateway]
replica_wait_s = 300

[[engines.pools]]
name = "seers"
kind = "vllm"
base = "{seer}"
engine = {{ max_adapters = 2, max_context = 512, max_batch = 4, max_rank = 16, kv_memory_gib = 1 }}

[[engines.pools]]
name = "blind"
kind = "transformers"
base = "{blind}"
engine = {{ max_context = 256 }}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty `LORRY_HOME`: the pools have base models of their own."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def up(home: Path, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A Lorry whose one pool sees, by vLLM, and whose other does not."""
    link_environments(home, "vllm")
    folder = tmp_path_factory.mktemp("bases")
    save_idefics(folder / SEER)
    save_base(folder / BLIND)
    (folder / "pictures").mkdir()
    (folder / "pictures" / "red.png").write_bytes(picture("red"))
    running = Up(home, port, CONFIG.format(seer=folder / SEER, blind=folder / BLIND, pictures=folder / "pictures"))
    yield running
    if running.process.poll() is None:
        running.stop(signal.SIGKILL)


def test_pictures_from_the_training_file_to_the_answer(up: Up) -> None:
    client = up.client()
    training_file = upload(client)
    with pytest.raises(openai.BadRequestError, match=r"line 1: .* is a picture, and base model 'blind' takes no"):
        client.fine_tuning.jobs.create(model=BLIND, training_file=training_file)
    job = client.fine_tuning.jobs.create(
        model=SEER,
        training_file=training_file,
        suffix="colours",
        extra_body={"hyperparameters": {"n_epochs": 10, "batch_size": 4, "learning_rate": 0.02}},
    )
    wait_for(lambda: client.fine_tuning.jobs.retrieve(job.id).status in {"succeeded", "failed"}, JOB_S)
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert done.status == "succeeded", done.error
    name = done.fine_tuned_model
    assert name
    wait_for(lambda: "colours@1" in proven(up), JOB_S)
    for content in ("Which colour?", [picture_part("red"), {"type": "text", "text": "Which colour?"}]):
        assert answer(client, name, content) != answer(client, SEER, content)
    # The answer depends on the picture, so the picture arrived.
    red, blue = ([picture_part(colour), {"type": "text", "text": "Which colour?"}] for colour in ("red", "blue"))
    assert answer(client, name, red) != answer(client, name, blue)
    with pytest.raises(openai.BadRequestError, match="image_url"):
        answer(client, BLIND, red)


def upload(client: openai.OpenAI) -> str:
    """A file whose pictures are data URLs, an uploaded file and a path."""
    chats = picture_chats()
    uploaded = client.files.create(file=("blue.png", picture("blue")), purpose="vision")
    chats[0]["messages"][0]["content"][0] = {"type": "image_url", "image_url": {"url": "red.png"}}
    chats[1]["messages"][0]["content"][1] = {"type": "image_file", "image_file": {"file_id": uploaded.id}}
    chats[3]["messages"][0]["content"][1] = {"type": "image_url", "image_url": {"url": uploaded.id}}
    lines = "".join(json.dumps(chat) + "\n" for chat in chats)
    return client.files.create(file=("chats.jsonl", lines.encode()), purpose="fine-tune").id


def proven(up: Up) -> dict[str, Any]:
    """Served name -> proof, of the revisions that a replica has."""
    slots = [slot for replica in Operator(up).get("/admin/replicas")["data"] for slot in replica["slots"]]
    return {slot["served_name"]: slot["proof"] for slot in slots if slot["proof"] and slot["proof"]["passed"]}


def answer(client: openai.OpenAI, model: str, content: Any) -> list[tuple[str, float]]:
    """The tokens of a greedy answer with their logprobs."""
    told = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": content}],
        max_tokens=8,
        temperature=0,
        logprobs=True,
        top_logprobs=1,
    )
    assert told.choices[0].logprobs is not None
    return [(token.token, round(token.logprob, 3)) for token in told.choices[0].logprobs.content or ()]
