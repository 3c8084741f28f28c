"""Faults of what people wrote, in their words: names that were meant, and fields whose value is wrong."""
