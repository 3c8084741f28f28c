"""The files and hubs that rows come from."""
