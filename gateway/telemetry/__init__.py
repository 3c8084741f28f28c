"""Metrics, access log and traces: the listeners of finished requests and the figures of the moment."""
