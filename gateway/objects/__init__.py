"""The JSON objects of the gateway's answers: the HTTP faces build them, the `lorry` command reads them."""
