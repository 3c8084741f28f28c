"""Help pages: their layout, and the examples of every command."""
