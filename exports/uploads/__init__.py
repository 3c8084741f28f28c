"""Uploads to hubs, each by its own client, which is imported when it is used."""
