"""Batches of requests, after OpenAI's Batch API: states, legal moves, leases, results, their rows."""
