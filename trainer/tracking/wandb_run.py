"""A run in Weights & Biases, offline unless `WANDB_MODE` is set otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from registry.contracts.extensions.integrations import Integration, WandbOptions
from registry.contracts.job_spec import JobSpec
from trainer.order import ChildOrder


class WandbRun:
    """A run with the id of the job, so that the attempts at a job are one run."""

    def __init__(self, integration: Integration, order: ChildOrder[JobSpec], folder: Path) -> None:
        # Before the import: the library reads them once.
        os.environ.setdefault("WANDB_MODE", "offline")
        for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            os.environ.setdefault(name, str(folder))
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        options = integration.wandb or WandbOptions(project="lorry")
        self._run = wandb.init(
            project=options.project,
            name=options.name or order.job_folder.name,
            entity=options.entity,
            tags=options.tags,
            id=order.job_folder.name,
            dir=folder,
            config=order.spec.model_dump(mode="json"),
            settings=wandb.Settings(console="off", silent=True, init_timeout=60, disable_git=True, save_code=False),
        )
        self.place = f"{os.environ['WANDB_MODE']}, in {folder}; `wandb sync` uploads a run that is offline"

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the figures."""
        self._run.log(dict(figures), step=step)

    def end(self, *, succeeded: bool) -> None:
        """Finish the run."""
        self._run.finish(exit_code=0 if succeeded else 1)
