"""What every process that the trainer starts has in common: its environment, and its end with its parent."""
