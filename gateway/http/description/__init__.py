"""The OpenAPI description of all endpoints, the relayed paths among them, and the page that shows it."""
