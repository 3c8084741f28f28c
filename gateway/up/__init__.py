"""The process tree of `lorry up`: the guardian, the host, Ray, and what runs in its actors."""
