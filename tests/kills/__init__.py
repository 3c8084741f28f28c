"""A drill that kills the parts of Lorry at work, and looks at what became of the jobs."""
