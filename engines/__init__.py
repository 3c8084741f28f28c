"""Inference servers behind one interface, and the small one of our own; knows no registry and no gateway."""
