"""Where adapters are loaded, simulated: the product's placement beside simpler policies."""
