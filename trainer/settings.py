"""Settings of a trainer worker: table `[trainer]` of the settings file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from registry.settings import parse_table
from registry.wording.known_fields import KnownFields


class TrainerSettings(KnownFields):
    """Table `[trainer]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    work: Path
    """Folder of checkpoints and logs, one folder a job; workers that share it can resume each other's jobs."""
    lease_s: PositiveFloat = 30.0
    """How long a job stays with a worker that does not renew its lease; a live worker renews at every poll."""
    poll_s: PositiveFloat = 1.0
    """How often an idle worker looks for a job, and a busy one for progress, cancellation and the end of its child."""
    device_bytes: PositiveInt | None = None
    """Memory that jobs may take of the worker's device; by default all that the accelerator or the machine has."""
    threads: PositiveInt = 1
    """CPU threads of a training child. The last digits of a result depend on it."""
    nice: int = Field(default=5, ge=0, le=19)
    """Niceness of a training child."""
    nice_beside_engines: int = Field(default=19, ge=0, le=19)
    """Niceness of one that starts while an engine serves on the same machine; 19 uses idle processors alone."""
    stop_timeout_s: PositiveFloat = 15.0
    """How long a child may take to stop at a checkpoint; then it is killed and the last checkpoint counts."""
    max_job_s: PositiveFloat = 86400.0
    """Longest time that one attempt of a job may take; then the job fails."""
    max_crashes: PositiveInt = 3
    """After so many crashed attempts (out of memory, dead worker) the job fails."""
    light_jobs: PositiveInt = 4
    """How many light jobs on one base model a worker trains side by side in one process; 1 gives each its own."""
    light_threads: PositiveInt | None = None
    """CPU threads of all light jobs of a process together; by default as many as the worker may use processors."""
    idle_base_s: NonNegativeFloat = 300.0
    """How long the process of light jobs stays without one, with its base model loaded for the next."""
    idle_base_bytes: PositiveInt = 8 * 2**30
    """Memory above which the process of light jobs ends as soon as it has none."""
    engine_load_limit: NonNegativeInt = 8
    """Requests in the engines of this machine, running or waiting, above which training stands still."""
    keep_checkpoints: PositiveInt = 2
    """How many checkpoints of an attempt are kept while it runs; all are removed when the job has ended."""

    gateway_url: str = "http://127.0.0.1:8080"
    """Address of the gateway, for graders that ask a model. In `lorry up` the default is its own gateway."""
    gateway_key_env: str = "LORRY_API_KEY"
    """Environment variable with the key for these requests, of the scope `inference`; children never see it."""
    placement: Literal["worker", "ray"] = "worker"
    """Where the processes of a job with several run: on the worker's machine, or where Ray places them."""
    ray_address: str | None = None
    """Address (`host:port`) of the Ray cluster for `placement = "ray"`; its default is the variable RAY_ADDRESS."""
    checkpoints_served_s: PositiveFloat = 604800.0
    """How long the checkpoints of a job are kept after they were published; then their bytes are removed."""

    def light_jobs_at_once(self) -> int:
        """Return how many light jobs of a process compute at a time, each with `threads` threads: at least one."""
        processors = self.light_threads or len(os.sched_getaffinity(0))
        return max(1, min(self.light_jobs, processors // self.threads))

    @model_validator(mode="after")
    def _lease_outlives_polls(self) -> TrainerSettings:
        if self.lease_s < 3 * self.poll_s:
            raise ValueError(f"lease_s {self.lease_s} must be at least three times poll_s {self.poll_s}")
        return self

    @model_validator(mode="after")
    def _ray_is_somewhere(self) -> TrainerSettings:
        if self.placement == "ray" and not self.ray_address:
            raise ValueError("placement 'ray' needs ray_address, or RAY_ADDRESS in the environment of the trainer")
        return self


def trainer_settings(
    tables: Mapping[str, Mapping[str, Any]], home: Path, environment: Mapping[str, str] | None = None
) -> TrainerSettings:
    """Return table `[trainer]` with its defaults below *home*; `SettingsInvalid` names what is wrong.

    `LORRY_URL` and `RAY_ADDRESS` of *environment* count unless the table has `gateway_url` and `ray_address`.
    """
    around = {} if environment is None else environment
    named = {"gateway_url": around.get("LORRY_URL"), "ray_address": around.get("RAY_ADDRESS")}
    defaults = {"work": home / "jobs"} | {name: value for name, value in named.items() if value is not None}
    return parse_table(TrainerSettings, "trainer", defaults | dict(tables.get("trainer", {})))
