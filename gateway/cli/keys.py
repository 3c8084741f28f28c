"""`lorry keys`: make, list and revoke API keys, at a gateway or directly in the registry of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

import typer

from gateway.cli.client import Client
from gateway.cli.output import JsonFlag, ago, note, show, show_json, show_table
from gateway.objects.keys import IssuedKeyObject, KeyObject
from gateway.objects.lists import ObjectList

app = typer.Typer(name="keys", no_args_is_help=True)

HomeFlag = Annotated[
    bool,
    typer.Option(
        "--home",
        help="Not through a gateway but directly in the registry of LORRY_HOME: "
        "for the first key before a gateway listens, and when no admin key is left.",
    ),
]


class _Keys(Protocol):
    """A place that stores keys. Every failure is a `CommandFailed`."""

    def create(self, body: dict[str, Any]) -> IssuedKeyObject: ...

    def list(self) -> list[KeyObject]: ...

    def revoke(self, id_or_name: str) -> KeyObject: ...


@app.command("create")
def create(
    name: Annotated[str, typer.Option(help="Name in the audit log of whoever uses the key.")],
    scopes: Annotated[
        str | None,
        typer.Option(help="Scopes: inference, training, metrics, admin; default inference, for the first key all."),
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Base models, adapters and NAME@N that the key may use; default all.")
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Default: no limit.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="Default: no limit.")] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Requests at a time; default: no limit.")] = None,
    priority: Annotated[str, typer.Option(help="Whose requests go first: high, normal or low.")] = "normal",
    owner: Annotated[str, typer.Option(help="Person or team to ask about the key.")] = "",
    tenant: Annotated[
        str | None,
        typer.Option(help="Keys of one tenant share their files, jobs and adapters; default a tenant of its own name."),
    ] = None,
    home: HomeFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a key and show its secret, this once."""
    body: dict[str, Any] = {
        "name": name,
        "scopes": _listed(scopes),
        "owner": owner,
        "tenant": tenant,
        "models": _listed(models),
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrent_requests": concurrent,
        "priority": priority,
    }
    with _keys(home) as keys:
        made = keys.create(body)
    if as_json:
        show_json(made)
        return
    note(f"{made.id} {made.name}: {', '.join(made.scopes)}. The secret is shown this once:")
    typer.echo(made.key)
    note("Commands take it from LORRY_API_KEY, OpenAI's SDK from OPENAI_API_KEY.")


@app.command("list")
def list_keys(
    every: Annotated[bool, typer.Option("--all", help="List revoked keys too.")] = False,
    home: HomeFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List keys with their scopes and limits, never their secrets."""
    with _keys(home) as keys:
        found = [key for key in keys.list() if every or key.revoked_at is None]
    if as_json:
        show_json(found)
        return
    rows = (
        (
            key.id,
            key.name,
            key.hint,
            ", ".join(key.scopes),
            "all" if key.models is None else ", ".join(key.models),
            _limits(key),
            key.priority,
            key.tenant,
            key.owner or None,
            ago(key.created_at),
            ago(key.last_used_at),
            ago(key.revoked_at),
        )
        for key in found
    )
    shown = "KEY NAME SECRET SCOPES MODELS LIMITS PRIORITY TENANT OWNER CREATED USED REVOKED"
    columns = tuple(shown.split())
    show_table(columns, rows, "No keys: everybody on this machine may do everything. `lorry keys create` makes one.")


@app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(help="Id or name of the key.")],
    home: HomeFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Revoke a key; requests that are in flight are still answered."""
    with _keys(home) as keys:
        revoked = keys.revoke(key)
    if as_json:
        show_json(revoked)
    else:
        show(f"{revoked.id} {revoked.name} is revoked")


def _listed(words: str | None) -> list[str] | None:
    """Return ["a", "b"] for `a, b`."""
    return None if words is None else [word.strip() for word in words.split(",") if word.strip()]


def _limits(key: KeyObject) -> str | None:
    """Return `60/min, 10000 tokens/min, 4 at a time`, None without any limit."""
    limits = (
        (key.requests_per_minute, "/min"),
        (key.tokens_per_minute, " tokens/min"),
        (key.concurrent_requests, " at a time"),
    )
    return ", ".join(f"{limit}{unit}" for limit, unit in limits if limit is not None) or None


class _KeysAtGateway:
    """The keys of a gateway."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, body: dict[str, Any]) -> IssuedKeyObject:
        return self._client.post("/admin/keys", IssuedKeyObject, body)

    def list(self) -> list[KeyObject]:
        return self._client.get("/admin/keys", ObjectList[KeyObject]).data

    def revoke(self, id_or_name: str) -> KeyObject:
        return self._client.delete(f"/admin/keys/{id_or_name}", KeyObject)


@contextmanager
def _keys(home: bool) -> Iterator[_Keys]:
    """Open the keys of the gateway at LORRY_URL, or of the registry that LORRY_HOME and LORRY_CONFIG name."""
    if not home:
        with Client() as client:
            yield _KeysAtGateway(client)
        return
    from gateway.cli.home_keys import keys_at_home

    with keys_at_home() as keys:
        yield keys
