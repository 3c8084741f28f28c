"""API keys as a gateway holds them, and what each key may ask for."""
