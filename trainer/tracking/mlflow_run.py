"""A run in MLflow, in files beside the job unless `MLFLOW_TRACKING_URI` names a server."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from registry.contracts.extensions.integrations import Integration, MlflowOptions
from registry.contracts.job_spec import JobSpec
from trainer.order import ChildOrder


class MlflowRun:
    """A run that all attempts at a job share."""

    def __init__(self, integration: Integration, order: ChildOrder[JobSpec], folder: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self.place = os.environ.get("MLFLOW_TRACKING_URI") or (folder / "mlruns").as_uri()
        from mlflow.tracking import MlflowClient

        options = integration.mlflow or MlflowOptions(experiment="lorry")
        self._client = MlflowClient(tracking_uri=self.place)
        kept = folder / "mlflow_run"
        if not kept.exists():
            experiment = self._client.get_experiment_by_name(options.experiment)
            made_in = (
                self._client.create_experiment(options.experiment) if experiment is None else experiment.experiment_id
            )
            run = self._client.create_run(
                made_in,
                run_name=options.name or order.job_folder.name,
                tags={"lorry.job": order.job_folder.name, **(options.tags or {})},
            )
            for name, value in order.spec.model_dump(mode="json").items():
                self._client.log_param(run.info.run_id, name, str(value)[:500])
            kept.write_text(run.info.run_id)
        self._run_id = kept.read_text()

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the figures."""
        from mlflow.entities import Metric

        at = int(time.time() * 1000)
        metrics = [Metric(name, value, at, step) for name, value in figures.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def end(self, *, succeeded: bool) -> None:
        """Set the state of the run."""
        self._client.set_terminated(self._run_id, "FINISHED" if succeeded else "KILLED")
