"""Modules that an engine imports from its own environment, which has nothing else of ours."""
