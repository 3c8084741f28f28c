"""The virtual environments of the engines and tools that cannot be installed beside Lorry."""
