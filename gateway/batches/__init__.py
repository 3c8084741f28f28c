"""Batches at work: their lines are asked through this gateway's own front door, with places that nobody else needs."""
