"""The training sidecar: claims jobs from the registry, runs each in a child process, publishes revisions."""
