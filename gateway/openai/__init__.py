"""The OpenAI API beside the hot paths: models, files, fine-tuning and feedback."""
