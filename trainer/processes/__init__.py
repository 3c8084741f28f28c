"""The common part of processes that the trainer starts: their environment, and their end with their parent."""
