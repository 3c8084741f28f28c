"""JSON objects of evaluations."""
