"""What uploaded files are for, and the check of those that are training data."""
