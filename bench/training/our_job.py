"""`python our_job.py ORDER`: submit a job to a gateway, have a worker do it, and print what it took.

Gateway and worker run already when a person submits a job, so their start is not counted; their work on the job is.
The memory is that of the training process.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from starlette.testclient import TestClient

from gateway.app import build_app, build_gateway
from gateway.settings import GatewaySettings
from registry.artifacts import folder_digest
from registry.database import Registry, open_registry
from registry.disk import Liveness
from registry.jobs.job_state import JobState
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.types import Base
from trainer.settings import TrainerSettings
from trainer.worker import Worker


def main() -> None:
    """Do the job of the order and print a line of JSON."""
    order = json.loads(Path(sys.argv[1]).read_bytes())
    folder = Path(order["folder"])
    registry = _registry(folder, Path(order["model"]))
    settings = TrainerSettings(work=folder / "jobs", threads=1, nice=0)
    worker = Worker(registry, settings, "bench", Liveness(folder, "bench"))
    application = build_app(build_gateway(GatewaySettings(), registry))
    with TestClient(application, base_url="http://localhost") as client, Path(order["rows"]).open("rb") as lines:
        file = client.post("/v1/files", files={"file": lines}, data={"purpose": "fine-tune"}).json()
    began, used = time.monotonic(), _processor_s()
    # Without `with`: the gateway's background loops have ended, and what they take is not the job's.
    client = TestClient(application, base_url="http://localhost")
    job = client.post("/v1/fine_tuning/jobs", json=_request(order, file["id"])).json()
    if "id" not in job:
        raise SystemExit(f"the job was refused: {job}")
    worker.work_once(threading.Event())
    told = {
        "wall_s": time.monotonic() - began,
        "processor_s": _processor_s() - used,
        "memory_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }
    ended = registry.jobs.get(job["id"])
    if ended.state is not JobState.SUCCEEDED:
        raise SystemExit(f"the job is {ended.state}: {ended.error}")
    events = registry.jobs.events(job["id"], limit=1000)
    losses = {event.data["step"]: event.data["train_loss"] for event in events if event.type == "metrics"}
    sys.stdout.write(json.dumps(told | {"losses": [losses[step] for step in sorted(losses)]}) + "\n")
    registry.close()


def _registry(folder: Path, model: Path) -> Registry:
    url = f"sqlite:///{folder / 'registry.db'}"
    migrate(url)
    registry = open_registry(RegistrySettings(url=url, artifacts=folder / "artifacts"))
    registry.bases.enter(
        Base(name="base", path=str(model), digest=folder_digest(model), licence="", created_at=time.time())
    )
    return registry


def _request(order: Mapping[str, Any], file_id: str) -> dict[str, Any]:
    method = order["method"]
    hyperparameters = {
        "n_epochs": 1,
        "batch_size": order["batch_size"],
        "learning_rate": order["learning_rate"],
        "max_length": order["max_length"],
        "lora_rank": order["rank"],
        "lora_alpha": order["alpha"],
        "target_modules": order["targets"],
        **order["hyperparameters"],
    }
    options = {"hyperparameters": hyperparameters} | ({"grader": order["grader"]} if order["grader"] else {})
    return {
        "model": "base",
        "training_file": file_id,
        "suffix": "bench",
        "seed": order["seed"],
        "method": {"type": method, method: options},
    }


def _processor_s() -> float:
    ours, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return ours.ru_utime + ours.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main()
