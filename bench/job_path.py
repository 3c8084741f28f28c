"""Print which files of ours a fine-tuning job crosses, from its request to its revision.

    python bench/job_path.py [CHECKOUT]

A real job on a tiny base model: the request to the application, a worker in this process, its child. A hand-over is a
call from a function of ours to a function of ours in another file; each pair of functions counts once, however often
one calls the other. The upload of the training file is not part of it, nor is the connection below the application.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

PACKAGES: Final = ("gateway", "engines", "registry", "trainer")
CHILD_NOTES: Final = "LORRY_JOB_PATH"


class CallRecorder:
    """Records the files and the hand-overs of this process while `is_on`."""

    def __init__(self, checkout: Path, notes: Path) -> None:
        """Write each finding to *notes* at once: a worker kills its child as soon as that has reported its end."""
        self.is_on = False
        self._root = f"{checkout}/"
        self._found: set[tuple[str, ...]] = set()
        self._notes = notes.open("a")

    def watch(self) -> None:
        """Look at every call of this thread and of those that begin later."""
        threading.setprofile(self._look)
        sys.setprofile(self._look)

    def _look(self, frame: FrameType, event: str, _: Any) -> None:
        if not self.is_on or event != "call" or (here := self._name_of(frame)) is None:
            return
        above = list(_callers(frame))
        if any(caller.f_code.co_filename.startswith("<frozen importlib") for caller in above):
            return  # a file is being imported, which is no step of the job
        self._note(here.partition(":")[0])
        there = next((name for caller in above if (name := self._name_of(caller)) is not None), here)
        if there.partition(":")[0] != here.partition(":")[0]:
            self._note(there, here)

    def _note(self, *found: str) -> None:
        if found not in self._found:
            self._found.add(found)
            print(*found, file=self._notes, flush=True)

    def _name_of(self, frame: FrameType) -> str | None:
        """Return file and function of a frame of ours; None for foreign code and for the top level of a file."""
        path = frame.f_code.co_filename
        if not path.startswith(self._root) or frame.f_code.co_name.startswith("<"):
            return None
        inside = path.removeprefix(self._root)
        return f"{inside}:{frame.f_code.co_qualname}" if inside.split("/")[0] in PACKAGES else None


def _callers(frame: FrameType) -> Iterator[FrameType]:
    """Yield the frames that *frame* was called from, the nearest first."""
    above = frame.f_back
    while above is not None:
        yield above
        above = above.f_back


def record_child(checkout: str) -> None:
    """Record all of this process."""
    recorder = CallRecorder(Path(checkout), Path(os.environ[CHILD_NOTES]))
    recorder.is_on = True
    recorder.watch()


def main(checkout: Path) -> None:
    """Run a job and print its path."""
    sys.path.insert(0, str(checkout))
    with tempfile.TemporaryDirectory() as scratch:
        notes = {"gateway and worker": Path(scratch, "here.txt"), "child": Path(scratch, "child.txt")}
        recorder = CallRecorder(checkout, notes["gateway and worker"])
        recorder.watch()
        _run_job(Path(scratch), checkout, recorder, notes["child"])
        sys.setprofile(None)
        found = {process: [tuple(line.split()) for line in path.open()] for process, path in notes.items()}
    for process, lines in found.items():
        folders: defaultdict[str, list[str]] = defaultdict(list)
        for name in [line[0] for line in lines if len(line) == 1]:
            folders[name.rpartition("/")[0]].append(name.rpartition("/")[2])
        print(f"{process}: {sum(map(len, folders.values()))} files")
        for folder, inside in sorted(folders.items()):
            print(f"  {folder}/: {', '.join(inside)}")
    everything = {line for lines in found.values() for line in lines}
    print(f"in all {sum(len(line) == 1 for line in everything)} files,", end=" ")
    print(f"{sum(len(line) == 2 for line in everything)} hand-overs")


def _run_job(scratch: Path, checkout: Path, recorder: CallRecorder, child_notes: Path) -> None:
    from starlette.testclient import TestClient

    from gateway.app import build_app, build_gateway
    from gateway.settings import GatewaySettings
    from registry.artifacts import folder_digest
    from registry.database import open_registry
    from registry.disk import Liveness
    from registry.schema import migrate
    from registry.settings import RegistrySettings
    from registry.types import Base
    from tests.trainer.tiny_base import save_base, write_chats
    from trainer.settings import TrainerSettings
    from trainer.worker import Worker

    (scratch / "sitecustomize.py").write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"import job_path; job_path.record_child({str(checkout)!r})\n"
    )
    os.environ |= {"PYTHONPATH": str(scratch), CHILD_NOTES: str(child_notes)}
    url = f"sqlite:///{scratch}/registry.db"
    migrate(url)
    registry = open_registry(RegistrySettings(url=url, artifacts=scratch / "artifacts"))
    base = scratch / "tiny"
    base.mkdir()
    save_base(base)
    registry.bases.enter(Base(name="tiny", path=str(base), digest=folder_digest(base), licence="", created_at=0.0))
    application = build_app(build_gateway(GatewaySettings(), registry))
    with (
        TestClient(application, base_url="http://localhost") as client,
        write_chats(scratch / "chats.jsonl").open("rb") as chats,
    ):
        file = client.post("/v1/files", files={"file": chats}, data={"purpose": "fine-tune"}).json()
    fits = {"n_epochs": 1, "batch_size": 4, "lora_rank": 4}
    recorder.is_on = True
    job = (
        TestClient(application, base_url="http://localhost")
        .post(  # its background loops have ended, so they are not recorded
            "/v1/fine_tuning/jobs",
            json={"model": "tiny", "training_file": file["id"], "suffix": "support", "hyperparameters": fits},
        )
        .json()
    )
    worker = Worker(registry, TrainerSettings(work=scratch / "jobs"), "worker", Liveness(scratch, "worker"))
    worker.work_once(threading.Event())
    recorder.is_on = False
    ended = registry.jobs.get(job["id"])
    if ended.revision is None:
        raise SystemExit(f"the job is {ended.state}: {ended.error}")
    registry.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve())
