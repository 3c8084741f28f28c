"""The job that people ask an estimate for, as a request would make it."""

from __future__ import annotations

from estimates.errors import EstimateError
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.hyperparameters import MethodOptions
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.errors import WeightsRefused


def job_spec(method: str, options: MethodOptions, rows: int) -> FineTuneSpec:
    """Return the spec of a job as a request would make it; `EstimateError` for what no job can be asked for."""
    kind = FINE_TUNING_METHODS[method]
    fields = kind.resolve(options, rows)
    spec = kind(base="model", base_digest="0" * 64, adapter="estimate", seed=0, training_file="file-0", **fields)
    try:
        spec.parallel.check(spec.batch_size, spec.weights, spec.lora)
    except WeightsRefused as exc:
        raise EstimateError(str(exc), "hyperparameters") from exc
    micro = spec.weights.micro_batch_size
    if micro is not None and spec.batch_size % micro != 0:
        raise EstimateError(
            f"micro_batch_size {micro} does not divide the batch_size {spec.batch_size}", "hyperparameters"
        )
    return spec
