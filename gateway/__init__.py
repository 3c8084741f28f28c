"""The gateway: the OpenAI and admin faces, routing, the Ray Serve graph and the `lorry` command."""
