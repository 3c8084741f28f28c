"""Training data before it is trained on: read from other forms, looked over, drawn for review."""
