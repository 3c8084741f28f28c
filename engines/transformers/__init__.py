"""Our own inference server for CPUs: transformers' models, one continuously formed batch, LoRA per request."""
