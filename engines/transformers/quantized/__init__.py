"""Quantized checkpoints: their tensors, their products, and the model that they are part of."""
