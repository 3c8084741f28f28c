"""Models that leave Lorry: folders, model cards, GGUF files, Ollama, hubs."""
