"""Evaluations: suites of prompts with checks, scores with intervals, paired comparisons, and the report as a page."""
