"""Graders at work: from a sample of a model and its item to a reward."""
