"""Request bodies of the server: what each endpoint takes, and what it answers to the rest."""
