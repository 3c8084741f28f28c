"""From the settings of a pool to its engines, and what replicas and the registry exchange."""
