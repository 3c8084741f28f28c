"""The fine-tuning methods: a spec for each, with what its callers may ask for."""
