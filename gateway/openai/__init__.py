"""The OpenAI face: chat, models, files and fine-tuning."""
