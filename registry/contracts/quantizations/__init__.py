"""Quantized checkpoints: the schemes, the job that makes one, and the scores by which its gate decides."""
