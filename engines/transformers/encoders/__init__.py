"""The server of models that embed or rank texts: what its folder says, passes over texts of many requests, answers."""
