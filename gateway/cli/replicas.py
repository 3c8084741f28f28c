"""`lorry replicas`: the inference servers and what they have loaded."""

from __future__ import annotations

from gateway.cli.client import Client
from gateway.cli.output import JsonFlag, ago, show_json, show_table


def list_replicas(as_json: JsonFlag = False) -> None:
    """List replicas with their adapters."""
    replicas = Client().get("/admin/replicas")["data"]
    if as_json:
        show_json(replicas)
        return
    rows = (
        (
            replica["id"],
            replica["state"],
            replica["base"],
            ", ".join(
                f"{s['served_name']}{'' if s['state'] == 'ready' else ' ' + s['state']}" for s in replica["slots"]
            ),
            ago(replica["heartbeat_at"]),
            replica["message"],
        )
        for replica in replicas
    )
    show_table(("REPLICA", "STATE", "BASE", "ADAPTERS", "HEARD OF", "MESSAGE"), rows, "No replicas.")
