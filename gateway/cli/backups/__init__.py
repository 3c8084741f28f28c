"""`lorry backup` and `lorry restore`, which work on the registry of this machine and need no gateway."""
