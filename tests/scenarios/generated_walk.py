"""A walk through one Lorry with a client that openapi-python-client has generated from its description.

Run as a program, with the generated package `lorry_client` importable: `python generated_walk.py URL DATA`. *DATA* is a
training file. The program prints what it did, and ends with an error at the first answer that is of no generated type.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from lorry_client import AuthenticatedClient
from lorry_client.api.files import list_files, upload_file
from lorry_client.api.fine_tuning import create_job, get_job
from lorry_client.api.inference import create_chat_completion
from lorry_client.api.models import list_models
from lorry_client.api.rollouts import admin_abort_rollout, admin_list_rollouts, admin_show_rollout, admin_start_rollout
from lorry_client.models import (
    BodyUploadFile,
    ChatCompletionRequest,
    ChatMessage,
    ChatMessageRole,
    CreateJob,
    ErrorEnvelope,
    StartRollout,
)
from lorry_client.types import File

T = TypeVar("T")
PATIENCE_S = 300.0
METHOD: Any = {
    "type": "supervised",
    "supervised": {
        "hyperparameters": {"n_epochs": 1, "batch_size": 5, "lora_rank": 2, "target_modules": ["q_proj", "v_proj"]}
    },
}


def whole(answer: T | ErrorEnvelope | None) -> T:
    """Return the answer; raise for one that is an error or of no type."""
    assert answer is not None, "the answer has a type that the description does not have"
    assert not isinstance(answer, ErrorEnvelope), answer
    return answer


def wait_for(done: Callable[[], bool]) -> None:
    """Return once *done*."""
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def train(client: Any, base: str, data: Path) -> str:
    """Return the name of the revision of a finished job."""
    body = BodyUploadFile(purpose="fine-tune", file=File(payload=BytesIO(data.read_bytes()), file_name="rows.jsonl"))
    file = whole(upload_file.sync(client=client, body=body))
    assert file.id in {each.id for each in whole(list_files.sync(client=client)).data}
    asked = CreateJob.from_dict({"model": base, "training_file": file.id, "suffix": "generated", "method": METHOD})
    job = whole(create_job.sync(client=client, body=asked))
    wait_for(lambda: whole(get_job.sync(job.id, client=client)).status in ("succeeded", "failed"))
    ended = whole(get_job.sync(job.id, client=client))
    assert ended.status == "succeeded", ended.error
    assert ended.lorry.revision
    return str(ended.lorry.revision)


def main() -> None:
    """Walk."""
    url, data = sys.argv[1], Path(sys.argv[2])
    client: Any = AuthenticatedClient(base_url=url, token="none", timeout=60)
    models = whole(list_models.sync(client=client)).data
    base = next(model.id for model in models if model.lorry.kind == "base")
    question = ChatMessage(role=ChatMessageRole.USER, content="say 7")
    chat = ChatCompletionRequest(model=base, messages=[question], max_tokens=4)
    answer = whole(create_chat_completion.sync(client=client, body=chat, x_session_id="walk"))
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.completion_tokens <= 4
    revisions = [train(client, base, data) for _ in range(2)]
    adapter, _, number = revisions[1].partition("@")
    plan = StartRollout(revision=int(number), steps=[50, 100], judge=False)
    rollout = whole(admin_start_rollout.sync(adapter, client=client, body=plan))
    assert rollout.id in {each.id for each in whole(admin_list_rollouts.sync(client=client)).data}
    shown = whole(admin_show_rollout.sync(rollout.id, client=client))
    assert (shown.canary, shown.stable) == (revisions[1], revisions[0])
    assert whole(admin_abort_rollout.sync(rollout.id, client=client)).state == "aborted"
    refused = create_chat_completion.sync(client=client, body=ChatCompletionRequest(model="none", messages=[question]))
    assert isinstance(refused, ErrorEnvelope)
    assert refused.error.code == "model_not_found"
    print(json.dumps({"chat": answer.model, "revisions": revisions, "rollout": shown.id}))


if __name__ == "__main__":
    main()
