"""Weights of models: merges of revisions into their base models, and exports."""
