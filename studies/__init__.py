"""Simulators and plots. Nothing of the product imports them."""
