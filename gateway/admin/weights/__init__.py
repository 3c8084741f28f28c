"""`/admin` endpoints for the weights of models: merging, and taking them out of Lorry."""
