"""Sends a job's figures to the experiment trackers that it names; no fault of a tracker fails the job."""
