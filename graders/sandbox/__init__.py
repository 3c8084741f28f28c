"""Python graders, run where they can do no harm."""
