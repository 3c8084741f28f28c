"""Evaluations in the registry: suites by digest, evaluations with their scores, and every single answer."""
