"""The endpoints of evaluations."""
