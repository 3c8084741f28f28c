"""What all methods share: the run of a job, the weights that it trains, its reports, checkpoints and result."""
