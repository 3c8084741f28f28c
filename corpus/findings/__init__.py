"""Findings in the texts of a row."""
