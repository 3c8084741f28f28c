"""Quantization by a program in an environment of its own, and the scores that decide whether the result is kept."""
