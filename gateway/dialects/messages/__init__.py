"""Anthropic's Messages, translated to chats and back. Pure."""
