"""Answers in a form that the request prescribes: every token is one that the form allows."""
