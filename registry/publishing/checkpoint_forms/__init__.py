"""Checks of the folders that become checkpoints, one for each form in which weights are stored."""
