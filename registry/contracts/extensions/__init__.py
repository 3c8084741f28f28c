"""Options that a job may ask for beside its method."""
