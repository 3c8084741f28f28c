"""Pictures of a job's files are checked when the job is asked for; no training runs here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from safetensors.numpy import load_file, save_file
from starlette.testclient import TestClient

from gateway.app import build_app, build_gateway
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.types import Base
from tests.registry.contracts.pictures.test_picture_rows import picture_bytes, url_part

SMALL = {"lora_rank": 2, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture_bytes())
    (folder / "broken.png").write_bytes(b"GIF89a")
    return folder


@pytest.fixture
def client(sqlite_registry: Registry, base: Base, pictures: Path, tmp_path: Path) -> Iterator[openai.OpenAI]:
    """A gateway with a base model that takes pictures, `seer`, and one that does not, `tiny`."""
    seer = tmp_path / "seer"
    seer.mkdir()
    for file in Path(base.path).iterdir():
        (seer / file.name).write_bytes(file.read_bytes())
    (seer / "config.json").write_text(json.dumps({"vision_config": {}}))
    (seer / "processor_config.json").write_text("{}")
    (seer / "chat_template.jinja").write_text("{{ 'image' }}")
    sqlite_registry.picture_folder = pictures
    for one in (base, replace(base, name="seer", path=str(seer), digest="1" * 64)):
        sqlite_registry.bases.enter(one)
    app = build_app(build_gateway(GatewaySettings(), sqlite_registry))
    with TestClient(app, base_url="http://localhost") as http:
        yield openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=http, max_retries=0)


def create(
    client: openai.OpenAI, part: dict[str, Any], model: str = "seer", hyperparameters: dict[str, Any] = SMALL
) -> Any:
    text = {"type": "text", "text": "hi"}
    chats = [
        {"messages": [{"role": "user", "content": [text, part]}, {"role": "assistant", "content": f"red {at}"}]}
        for at in range(10)
    ]
    lines = "\n".join(map(json.dumps, chats)).encode()
    file_id = client.files.create(file=("chats.jsonl", lines), purpose="fine-tune").id
    return client.fine_tuning.jobs.create(
        model=model, training_file=file_id, suffix="colours", extra_body={"hyperparameters": hyperparameters}
    )


def test_the_job_remembers_the_pictures_outside_of_its_files(
    client: openai.OpenAI, sqlite_registry: Registry, pictures: Path
) -> None:
    uploaded = client.files.create(file=("p.png", picture_bytes()), purpose="vision").id

    def digest(part: dict[str, Any]) -> str:
        spec = sqlite_registry.jobs.get(create(client, part).id).spec
        return str(spec.model_dump()["pictures"]["training_file"])

    first = digest(url_part("a.png"))
    assert digest(url_part(uploaded)) != first
    assert digest({"type": "image_file", "image_file": {"file_id": uploaded}}) == digest(url_part(uploaded))
    (pictures / "a.png").write_bytes(picture_bytes(size=(7, 7)))
    assert digest(url_part("a.png")) != first


@pytest.mark.parametrize(
    ("part", "model", "said"),
    [
        (url_part("a.png"), "tiny", r"line 1: .*content\[1\] is a picture, and base model 'tiny' takes no pictures"),
        (url_part("none.png"), "seer", r"line 1: .*content\[1\]: there is no picture 'none.png'"),
        (url_part("broken.png"), "seer", r"line 1: .*content\[1\]: is not a picture in JPEG, PNG, WEBP"),
        (url_part("../seer/config.json"), "seer", r"line 1: .* does not lie below the folder of pictures"),
        (url_part("file-abc"), "seer", r"line 1: .* no file 'file-abc'; upload the picture with the purpose vision"),
    ],
)
def test_a_picture_that_cannot_be_learnt_refuses_the_job(
    client: openai.OpenAI, part: dict[str, Any], model: str, said: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=said) as caught:
        create(client, part, model)
    assert caught.value.param == "training_file"


@pytest.mark.long
def test_a_picture_that_an_open_job_names_cannot_be_deleted(client: openai.OpenAI) -> None:
    named, other = (client.files.create(file=("p.png", picture_bytes()), purpose="vision").id for _ in range(2))
    job = create(client, url_part(named))
    with pytest.raises(openai.ConflictError) as refused:
        client.files.delete(named)
    for said in (f"file {named} is in use by {job.id}", f"training_file {job.training_file}", "line 1: messages[0]"):
        assert said in str(refused.value)
    assert client.files.delete(other).deleted
    client.fine_tuning.jobs.cancel(job.id)
    assert client.files.delete(named).deleted


def test_the_part_that_sees_is_no_target_of_an_adapter(client: openai.OpenAI, tmp_path: Path) -> None:
    seer = tmp_path / "seer" / "model.safetensors"
    tensors = load_file(seer)
    tower = tensors["model.layers.0.self_attn.q_proj.weight"]
    save_file({**tensors, "model.vision_model.layers.0.fc1.weight": tower}, seer)
    said = (
        r"target_modules has 'fc1', which is no linear module of the base's language model; .* part that sees pictures"
    )
    with pytest.raises(openai.BadRequestError, match=said):
        create(client, url_part("a.png"), hyperparameters={**SMALL, "target_modules": ["fc1"]})
