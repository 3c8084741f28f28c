"""Commands about batches of requests."""
