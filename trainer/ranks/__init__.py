"""The further processes of a child whose job is trained by several: on its machine, or placed by Ray."""
