"""Calls of functions in answers: the grammar that an answer with tools follows, and the reading of what was written."""
