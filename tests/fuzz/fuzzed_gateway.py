"""A gateway in a process of its own for the fuzzer: two revisions, an open rollout, a file, a job, and keys if asked.

    python -m tests.fuzz.fuzzed_gateway FOLDER ENGINE_URL [--keys]

The first line that it prints has its port and keys; then it prints, twice a second, its memory and the longest time for
which its event loop computed without a pause.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np
import psutil
import uvicorn
import uvloop
from safetensors.numpy import save_file

from gateway.app import build_gateway
from gateway.rollouts.controller import begin_if_loaded
from gateway.settings import GatewaySettings
from gateway.up.http_server import server_config
from registry.artifacts import folder_digest
from registry.contracts.fingerprint import write_fingerprint
from registry.database import Registry, open_registry
from registry.errors import RegistryError
from registry.keys import KeyDraft, Scope
from registry.publishing.publish import publish
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.states import ReplicaState, RevisionState, SlotState
from registry.types import Base, Replica, RevisionDraft, Slot
from tests.conftest import base_tensors, made_up_fingerprint
from tests.fuzz.odd_requests import ROW

SETTINGS: Final = GatewaySettings(
    route_refresh_s=0.05,
    observe_flush_s=0.1,
    replica_wait_s=0.5,
    request_timeout_s=5.0,
    receive_timeout_s=1.0,
    max_body_bytes=1 << 20,
    max_form_bytes=1 << 20,
    max_upload_bytes=2 << 20,
)
"""Short waits, and bounds that a small request passes."""
LOOK_S: Final = 0.01
REPORT_S: Final = 0.5
MOST_FILES: Final = 4096


class Stage:
    """The registry behind the gateway, with a rollout that is opened again whenever a request has ended it."""

    def __init__(self, folder: Path, engine_url: str) -> None:
        self._folder = folder
        self._engine_url = engine_url
        url = f"sqlite:///{folder / 'registry.db'}"
        migrate(url)
        self.registry: Registry = open_registry(RegistrySettings(url=url, artifacts=folder / "artifacts"))
        self._made = 0
        self._base = self._enter_base()
        for _ in range(2):
            self._publish()
        self.registry.adapters.set_first_stable("support", 1, reason="first_revision")
        self.registry.files.add([ROW * 12], filename="a.jsonl", purpose="fine-tune", owner="ann")

    def make_keys(self) -> list[str]:
        """Make keys for everything, for training and for inference; return their secrets."""
        kinds = {"fuzz-all": frozenset(Scope), "fuzz-train": {Scope.TRAINING}, "fuzz-ask": {Scope.INFERENCE}}
        drafts = [KeyDraft(name=name, scopes=frozenset(scopes)) for name, scopes in kinds.items()]
        return [self.registry.keys.create(draft, "ann").secret for draft in drafts]

    def keep_open(self) -> None:
        """Leave with an open rollout of `support`."""
        registry = self.registry
        if registry.rollouts.open_for("support") is not None:
            return
        stable = registry.adapters.get("support").stable
        ready = [
            revision.number
            for revision in registry.adapters.revisions("support")
            if revision.state is RevisionState.READY and revision.number != stable
        ]
        if not ready:
            ready = [self._publish()]
        plan = RolloutPlan(steps=weighted(50, 100))
        begin_if_loaded(registry, registry.rollouts.start("support", ready[-1], plan, "ann"))

    def _enter_base(self) -> Base:
        folder = self._folder / "tiny"
        folder.mkdir()
        zeros = {name: np.zeros(shape, np.float32) for name, shape in base_tensors().items()}
        save_file(zeros, folder / "model.safetensors")
        (folder / "config.json").write_text('{"model_type": "llama"}')
        base = Base(name="tiny", path=str(folder), digest=folder_digest(folder), licence="mit", created_at=1.0)
        self.registry.bases.enter(base)
        return base

    def _publish(self) -> int:
        self._made += 1
        folder = self._folder / f"adapter-{self._made}"
        folder.mkdir()
        random = np.random.default_rng(self._made)
        tensors = {}
        for name, (rows, *columns) in base_tensors().items():
            if name.endswith("q_proj.weight"):
                at = f"base_model.model.{name.removesuffix('.weight')}"
                tensors[f"{at}.lora_A.weight"] = random.standard_normal((2, columns[0])).astype(np.float32)
                tensors[f"{at}.lora_B.weight"] = random.standard_normal((rows, 2)).astype(np.float32)
        save_file(tensors, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none"}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        write_fingerprint(made_up_fingerprint(self._base.digest), folder)
        draft = RevisionDraft(adapter="support", base="tiny", owner="ann")
        number = publish(self.registry, folder, draft).number
        self._report()
        return number

    def _report(self) -> None:
        slots = [Slot(served_name=f"support@{number + 1}", state=SlotState.READY) for number in range(self._made)]
        for replica in ("r0", "r1"):
            row = Replica(
                id=replica,
                base="tiny",
                engine="transformers",
                url=self._engine_url,
                state=ReplicaState.READY,
                capacity=8,
                slots=tuple(slots),
                message="",
                started_at=0.0,
                heartbeat_at=0.0,
            )
            self.registry.replicas.report(row)


async def serve(stage: Stage, keys: list[str]) -> None:
    """Serve on a free port until the process is ended."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    server = uvicorn.Server(server_config(build_gateway(SETTINGS, stage.registry)))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110  uvicorn sets a flag, no event
            await asyncio.sleep(LOOK_S)
        _print({"port": listener.getsockname()[1], "keys": keys})
        group.create_task(_watch())
        while not server.should_exit:
            try:
                await asyncio.to_thread(stage.keep_open)
            except RegistryError as exc:  # a request moved it meanwhile
                logging.getLogger(__name__).info("no rollout was opened", extra={"reason": str(exc)})
            await asyncio.sleep(0.2)


async def _watch() -> None:
    """Report memory and the loop's longest computation: processor time, as a busy machine is not ours."""
    process = psutil.Process()
    longest_s, reported_at = 0.0, time.monotonic()
    while True:
        began, computed = time.monotonic(), time.process_time()
        await asyncio.sleep(LOOK_S)
        late_s = time.monotonic() - began - LOOK_S
        longest_s = max(longest_s, min(late_s, time.process_time() - computed))
        if time.monotonic() - reported_at > REPORT_S:
            _print({"rss": process.memory_info().rss, "blocked_s": longest_s})
            longest_s, reported_at = 0.0, time.monotonic()


def _print(facts: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("engine_url")
    parser.add_argument("--keys", action="store_true")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))
    logging.basicConfig(filename=args.folder / "gateway.log", level=logging.WARNING)
    stage = Stage(args.folder, args.engine_url)
    uvloop.run(serve(stage, stage.make_keys() if args.keys else []))


if __name__ == "__main__":
    main()
