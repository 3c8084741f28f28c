"""Compare the result of a job that was run again with the one that it made first."""
