"""Commands that show a running Lorry: its status, its inference servers, a chat with its models."""
