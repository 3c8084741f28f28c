"""A driver for each kind of inference server, and the parts that drivers are built from."""
