"""`lorry adapters owner`: the tenant that an adapter belongs to, and whether every key may use it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.client import Client
from gateway.cli.output import JsonFlag, show, show_json
from gateway.objects.adapters import AdapterOwnerObject


def change_owner(
    name: Annotated[str, typer.Argument(help="Adapter.")],
    tenant: Annotated[str | None, typer.Option(help="Tenant whose keys may train it.")] = None,
    shared: Annotated[
        bool | None, typer.Option("--shared/--private", help="Whether every key may use it, or its tenant alone.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Give an adapter to another tenant, open it to every key, or close it."""
    changes: dict[str, Any] = {"tenant": tenant, "shared": shared}
    body = {field: value for field, value in changes.items() if value is not None}
    if not body:
        raise typer.BadParameter("give --tenant NAME, --shared or --private")
    with Client() as client:
        owner = client.put(f"/admin/adapters/{name}/owner", AdapterOwnerObject, body)
    if as_json:
        show_json(owner)
        return
    users = "every key may use it" if owner.shared else "only its tenant, and keys that name it, may use it"
    show(f"{owner.adapter} belongs to {owner.tenant}; {users}")
