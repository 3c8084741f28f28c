"""Where models come from and what became of them: from data files to rollouts, deleted parts included."""
