"""Conversations as a model reads them: the one rendering of messages, tools and calls for serving and training."""
