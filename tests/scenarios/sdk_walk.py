"""Every call of OpenAI's fine-tuning API by openai-python as it is installed; each answer is parsed strictly.

Run as a program: `python sdk_walk.py BASE_URL NAME NOTICES`; *NOTICES* is the file that a webhook's receiver appends
to. The program prints what it did, and ends with an error at the first answer that is not of the SDK's types.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from hashlib import md5
from pathlib import Path
from typing import Any, TypeVar

import openai
from openai.types import FileDeleted, FileObject, Model, ModelDeleted, Upload
from openai.types.chat import ChatCompletion
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.alpha import GraderRunResponse, GraderValidateResponse
from openai.types.fine_tuning.checkpoints import (
    PermissionCreateResponse,
    PermissionDeleteResponse,
    PermissionListResponse,
    PermissionRetrieveResponse,
)
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from openai.types.uploads import UploadPart
from openai.types.webhooks import FineTuningJobSucceededWebhookEvent
from pydantic import BaseModel

T = TypeVar("T", bound=BaseModel)
OURS = {"lorry", "user_provided_suffix", "other_error_details", "store"}
"""Fields that the SDK's types lack: our own, of which one is a grader's, and two that OpenAI sends too."""
PATIENCE_S = 300.0
"""Beyond this the program reports what it waits for, instead of waiting for ever."""
ROWS = [
    {"messages": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": f"{n} it is"}]}
    for n in range(10)
]
CONTENT = "\n".join(map(json.dumps, ROWS)).encode()
METHOD: Any = {
    "type": "supervised",
    "supervised": {
        "hyperparameters": {
            "n_epochs": 2,
            "batch_size": 5,
            "learning_rate_multiplier": "auto",
            "checkpoint_steps": 2,
            "lora_rank": 2,
            "target_modules": ["q_proj", "v_proj"],
        }
    },
}


def check_fields(value: Any, where: str) -> None:
    """Raise unless every field of *value*, at every depth, is one that the SDK's type has."""
    if isinstance(value, BaseModel):
        if unknown := set(value.model_extra or ()) - OURS:
            raise TypeError(f"{where} has fields that {type(value).__name__} lacks: {sorted(unknown)}")
        for name in type(value).model_fields:
            check_fields(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, list):
        for at, entry in enumerate(value):
            check_fields(entry, f"{where}[{at}]")


def strict(kind: type[T], raw: Any) -> T:
    """Return the answer as the SDK's type, without any conversion; print the call."""
    request = raw.http_request
    print(f"{request.method} {request.url.raw_path.decode()} -> {raw.status_code} {kind.__name__}", flush=True)
    found = kind.model_validate_json(raw.text, strict=True)
    check_fields(found, kind.__name__)
    return found


def strict_page(kind: type[T], raw: Any) -> list[T]:
    """Return the entries of a list as the SDK's type."""
    request, page = raw.http_request, json.loads(raw.text)
    print(f"{request.method} {request.url.raw_path.decode()} -> {raw.status_code} list of {kind.__name__}", flush=True)
    if page["object"] != "list" or not isinstance(page["has_more"], bool):
        raise TypeError(f"not a list: {raw.text[:200]}")
    found = [kind.model_validate_json(json.dumps(entry), strict=True) for entry in page["data"]]
    check_fields(found, f"list of {kind.__name__}")
    return found


def expect(claim: object, what: str) -> None:
    """Raise unless *claim* holds."""
    if not claim:
        raise AssertionError(what)


def wait_until(look: Callable[[], T | None], what: str) -> T:
    """Ask *look* until it returns something; raise if that takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.5)
    raise AssertionError(f"waited in vain for {what}")


class Walk:
    """The calls, in their order."""

    def __init__(self, base_url: str, name: str, notices: Path) -> None:
        self.client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, webhook_secret=SECRET)
        self.name = name
        self.notices = notices

    def files(self) -> None:
        """Walk `/v1/files`."""
        files = self.client.files.with_raw_response
        after: Any = {"anchor": "created_at", "seconds": 3600}
        made = [
            strict(FileObject, files.create(file=(f"{n}.jsonl", CONTENT), purpose="fine-tune", expires_after=after))
            for n in range(2)
        ]
        picture = strict(FileObject, files.create(file=("cat.png", b"\x89PNG"), purpose="vision"))
        expect(made[0].expires_at == made[0].created_at + 3600, "expires_at")
        listed = strict_page(FileObject, files.list(purpose="fine-tune", limit=1, order="desc"))
        expect([file.id for file in listed] == [made[1].id], "the newest first")
        found = strict_page(FileObject, files.list(purpose="fine-tune", order="asc", after=made[0].id))
        expect(made[1].id in [file.id for file in found], "after")
        expect({file.id for file in made} <= {file.id for file in self.client.files.list(limit=1)}, "page by page")
        expect(self.client.files.content(made[0].id).read() == CONTENT, "content")
        for file in (*made, picture):
            expect(strict(FileObject, files.retrieve(file.id)).bytes == file.bytes, "retrieve")
            expect(strict(FileDeleted, files.delete(file.id)).deleted, "delete")

    def uploads(self) -> str:
        """Walk `/v1/uploads`; return the id of the file."""
        uploads = self.client.uploads.with_raw_response
        facts: Any = {"filename": "a", "mime_type": "text/jsonl", "purpose": "fine-tune"}
        left = strict(Upload, uploads.create(bytes=9, **facts))
        expect(strict(Upload, uploads.cancel(left.id)).status == "cancelled", "cancel")
        upload = strict(Upload, uploads.create(bytes=len(CONTENT), **facts))
        parts = [
            strict(UploadPart, self.client.uploads.parts.with_raw_response.create(upload.id, data=data)).id
            for data in (CONTENT[100:], CONTENT[:100])
        ]
        checksum = md5(CONTENT, usedforsecurity=False).hexdigest()
        done = strict(Upload, uploads.complete(upload.id, part_ids=parts[::-1], md5=checksum))
        expect(done.file is not None and done.status == "completed", "complete")
        chunked = self.client.uploads.upload_file_chunked(
            file=CONTENT, filename="b", bytes=len(CONTENT), mime_type="text/jsonl", purpose="fine-tune", part_size=256
        )
        expect(chunked.file is not None and chunked.file.bytes == len(CONTENT), "upload_file_chunked")
        return str(done.file and done.file.id)

    def jobs(self, file_id: str) -> FineTuningJob:
        """Walk `/v1/fine_tuning/jobs`; return a job that succeeded."""
        jobs = self.client.fine_tuning.jobs.with_raw_response
        facts: Any = {"model": "tiny", "training_file": file_id, "method": METHOD, "seed": 7}
        waiting = strict(FineTuningJob, jobs.create(**facts, suffix=f"{self.name}-left"))
        self._pause_and_resume(waiting.id)
        expect(strict(FineTuningJob, jobs.cancel(waiting.id)).status in ("cancelled", "running"), "cancel")
        metadata = {"walk": self.name}
        job = strict(
            FineTuningJob,
            jobs.create(**facts, suffix=self.name, metadata=metadata, validation_file=file_id),
        )
        found = strict_page(FineTuningJob, jobs.list(limit=1, metadata=metadata))
        expect([each.id for each in found] == [job.id], "metadata")
        without = strict_page(FineTuningJob, jobs.list(limit=100, extra_query={"metadata": "null"}))
        expect(job.id not in [each.id for each in without], "metadata=null")
        expect(job.id in [each.id for each in strict_page(FineTuningJob, jobs.list(limit=100))], "list")
        return self._wait_for(job.id)

    def _pause_and_resume(self, job_id: str) -> None:
        # `paused` is OpenAI's own word here, which the enum of its type lacks.
        self.client.fine_tuning.jobs.pause(job_id)
        paused = self._await_state(job_id, "paused")
        print(f"POST /v1/fine_tuning/jobs/{job_id}/pause -> {paused.status}", flush=True)
        strict(FineTuningJob, self.client.fine_tuning.jobs.with_raw_response.resume(job_id))

    def _await_state(self, job_id: str, *states: str) -> FineTuningJob:
        def look() -> FineTuningJob | None:
            job = self.client.fine_tuning.jobs.retrieve(job_id)
            return job if str(job.status) in states else None

        return wait_until(look, f"{job_id} to be {' or '.join(states)}")

    def _wait_for(self, job_id: str) -> FineTuningJob:
        jobs = self.client.fine_tuning.jobs
        self._await_state(job_id, "succeeded", "failed", "cancelled")
        job = strict(FineTuningJob, jobs.with_raw_response.retrieve(job_id))
        expect(job.status == "succeeded", f"the job is {job.status}: {job.error}")
        first = strict_page(FineTuningJobEvent, jobs.with_raw_response.list_events(job_id, limit=2))
        expect(first[0].message == "The job has successfully completed", first[0].message)
        messages = [event.message for event in jobs.list_events(job_id, limit=3)]
        expect(messages[-1] == f"Created fine-tuning job: {job_id}", messages[-1])
        expect(f"New fine-tuned model created: {job.fine_tuned_model}" in messages, "the familiar message")
        kept = strict_page(FineTuningJobCheckpoint, jobs.checkpoints.with_raw_response.list(job_id, limit=2))
        empty = [name for name, value in kept[0].metrics if value is None]
        expect(not empty, f"metrics of a checkpoint lack {empty}")
        return job

    def results(self, job: FineTuningJob) -> None:
        """Read the result file."""
        lines = self.client.files.content(job.result_files[0]).text.splitlines()
        expect(lines[0].startswith("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"), lines[0])
        expect(len(lines) == 5, "a line for each step")
        expect(all(lines[-1].split(",")), f"the last step lacks a figure: {lines[-1]}")
        print("\n".join(lines), flush=True)

    def chat(self, model: str) -> None:
        """Ask the fine-tuned model."""
        ask = self.client.chat.completions.with_raw_response
        told = strict(ChatCompletion, ask.create(model=model, messages=[{"role": "user", "content": "say 4"}]))
        expect(told.choices[0].finish_reason in ("stop", "length"), "an answer")

    def graders(self) -> None:
        """Walk `/v1/fine_tuning/alpha/graders`."""
        graders = self.client.fine_tuning.alpha.graders.with_raw_response
        grader: Any = {
            "type": "string_check",
            "name": "same",
            "operation": "eq",
            "input": "{{sample.output_text}}",
            "reference": "{{item.answer}}",
        }
        strict(GraderValidateResponse, graders.validate(grader=grader))
        told = strict(GraderRunResponse, graders.run(grader=grader, model_sample="four", item={"answer": "four"}))
        expect(told.reward == 1.0, "reward")

    def models(self, name: str) -> None:
        """Walk permissions and `/v1/models`."""
        shared = self.client.fine_tuning.checkpoints.permissions
        raw = shared.with_raw_response
        made = strict_page(PermissionCreateResponse, raw.create(name, project_ids=["blue", "red"]))
        listed = strict_page(PermissionListResponse, raw.list(name, limit=1, order="ascending", project_id="red"))
        expect([each.id for each in listed] == [made[1].id], "project_id")
        expect(len(list(shared.list(name, limit=1))) == 2, "page by page")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            expect(len(strict(PermissionRetrieveResponse, raw.retrieve(name)).data) == 2, "retrieve")
        gone = strict(PermissionDeleteResponse, raw.delete(made[0].id, fine_tuned_model_checkpoint=name))
        expect(gone.deleted, "delete")
        models = self.client.models.with_raw_response
        expect(strict(Model, models.retrieve(name)).id == name, "retrieve")
        page = json.loads(models.list().text)
        expect(name in [Model.model_validate(each, strict=True).id for each in page["data"]], "list")
        expect(strict(ModelDeleted, models.delete(name)).deleted, "delete")
        try:
            self.client.models.delete(name)
        except openai.NotFoundError as exc:
            print(f"DELETE /v1/models/{name} -> 404 {exc.code}", flush=True)
        else:
            raise AssertionError("a deleted model is still there")

    def webhook(self, job_id: str) -> None:
        """Unwrap the notice of the job's end."""

        def look() -> FineTuningJobSucceededWebhookEvent | None:
            for headers, body in read_notices(self.notices):
                event = self.client.webhooks.unwrap(body, headers) if job_id in body else None
                if isinstance(event, FineTuningJobSucceededWebhookEvent):
                    return FineTuningJobSucceededWebhookEvent.model_validate_json(body, strict=True)
            return None

        event = wait_until(look, f"the webhook of {job_id}")
        check_fields(event, "event")
        print(f"webhook {event.type} {event.data.id}", flush=True)


SECRET = "whsec_" + "bG9ycnktdGVzdC1zZWNyZXQtb2YtMzItYnl0ZXMhISE="


def read_notices(path: Path) -> Iterable[tuple[dict[str, str], str]]:
    """Return headers and body of every notice that came."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(entry["headers"], entry["body"]) for entry in map(json.loads, lines)]


def main() -> None:
    """Take the walk."""
    base_url, name, notices = sys.argv[1:]
    walk = Walk(base_url, name, Path(notices))
    print(f"openai-python {openai.__version__}", flush=True)
    walk.files()
    job = walk.jobs(walk.uploads())
    walk.results(job)
    walk.chat(str(job.fine_tuned_model))
    walk.graders()
    walk.webhook(job.id)
    walk.models(str(job.fine_tuned_model))


if __name__ == "__main__":
    main()
