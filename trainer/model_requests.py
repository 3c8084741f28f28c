"""Questions of a child to models of this Lorry: a child asks its worker, which has the key for the gateway.

A line of JSON each way over a socket that both inherit. The worker answers for the models that the job names only.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final

from graders.errors import Fault, GradingFailed
from graders.grade import ModelAnswer, Models
from registry.contracts.job_spec import JobSpec
from trainer.settings import TrainerSettings

if TYPE_CHECKING:
    from graders.http_models import HttpModels

_LONGEST_LINE: Final = 4 * 2**20


def gateway_models(spec: JobSpec, settings: TrainerSettings) -> HttpModels | None:
    """Return the gateway as a child's source of answers; None for a job that asks no model."""
    if not spec.asked_models():
        return None
    from graders.http_models import HttpModels  # an HTTP client, 11 MB that a resting worker does without

    key = os.environ.get(settings.gateway_key_env)
    return HttpModels(settings.gateway_url, {} if key is None else {"authorization": f"Bearer {key}"})


class WorkerModels:
    """The child's end: models by way of the worker."""

    def __init__(self, descriptor: int) -> None:
        """Take over the socket *descriptor*."""
        self._socket = socket.socket(fileno=descriptor)
        self._lines = self._socket.makefile("rb")
        self._lock = Lock()

    def answer(self, body: Mapping[str, Any]) -> ModelAnswer:
        """Return the answer to the chat completion *body*; `GradingFailed` if there is none."""
        with self._lock:
            try:
                self._socket.sendall(json.dumps(body).encode() + b"\n")
                line = self._lines.readline(_LONGEST_LINE)
            except OSError:
                line = b""
        if not line:
            raise GradingFailed(Fault.MODEL_SERVER, "the worker does not answer")
        answer = json.loads(line)
        if "fault" in answer:
            raise GradingFailed(Fault(answer["fault"]), answer["message"])
        return ModelAnswer(text=answer["text"], usage=answer["usage"])

    def close(self) -> None:
        """Close the socket."""
        self._lines.close()
        self._socket.close()


class ModelRequests:
    """The worker's end: answers a child's questions until the child ends."""

    def __init__(self, models: Models, allowed: frozenset[str]) -> None:
        self._models = models
        self._allowed = allowed
        self._ours, self.childs = socket.socketpair()
        self._thread = Thread(target=self._serve, name="model-requests", daemon=True)

    def start(self) -> None:
        """Close the child's end, which the child has by now, and begin to answer."""
        self.childs.close()
        self._thread.start()

    def close(self) -> None:
        """End the thread, which would otherwise wait for a child that never came to be."""
        self.childs.close()
        with suppress(OSError):  # the child is gone already
            self._ours.shutdown(socket.SHUT_RDWR)
        self._ours.close()

    def _serve(self) -> None:
        with self._ours, self._ours.makefile("rb") as lines:
            for line in lines:
                try:
                    self._ours.sendall(json.dumps(self._answer(line)).encode() + b"\n")
                except OSError:  # the child is gone
                    return

    def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            body = json.loads(line)
            if body.get("model") not in self._allowed:
                raise GradingFailed(Fault.MODEL_SERVER, "the job's grader does not name this model")
            answer = self._models.answer(body)
        except GradingFailed as exc:
            return {"fault": str(exc.fault), "message": exc.message}
        except (ValueError, AttributeError):
            return {"fault": str(Fault.MODEL_SERVER), "message": "the question is no chat completion"}
        return {"text": answer.text, "usage": dict(answer.usage)}
