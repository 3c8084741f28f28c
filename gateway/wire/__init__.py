"""HTTP connections to engines, and requests over them."""
