"""The server of models that embed or rank texts: reads a folder, passes over texts of many requests, answers."""
