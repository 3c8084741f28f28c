"""The purposes of uploaded files, and the check of those that are training data."""
