"""Graders as callers write them: what they compare, ask or run, checked without running anything."""
