"""Metrics, access log and traces: listeners of finished requests, and figures read on demand."""
