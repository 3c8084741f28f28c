"""OpenAI's Responses as a dialect of the chat. Pure."""
