"""Inference servers behind one interface, and the small one of our own; uses no registry and no gateway."""
