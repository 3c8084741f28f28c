"""Pictures in training files: how a line names them, what they may be, and how engines read them."""
