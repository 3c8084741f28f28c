"""GGUF files of models and adapters, as llama.cpp and Ollama read them. Numpy and the library `gguf`; no torch."""
