"""The parts that all methods share: the run of a job, its weights, reports, checkpoints and result."""
