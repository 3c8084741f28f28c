"""The virtual environments of the engines that cannot be installed beside Lorry."""
