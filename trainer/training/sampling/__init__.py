"""Outputs that a model samples while it is trained, their rewards, and the losses over both."""
