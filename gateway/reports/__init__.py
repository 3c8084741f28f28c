"""Reports on uploaded training files, made beside the gateway."""
