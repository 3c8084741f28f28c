"""Evaluations at work: which ones this gateway runs, their rows asked through its own front door, and their checks."""
