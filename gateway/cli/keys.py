"""`lorry keys`: make, list and revoke API keys, at a gateway or directly in the registry of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final, Protocol

import typer

from gateway.cli.client import Client, part
from gateway.cli.completion.arguments import KeyName
from gateway.cli.errors import CommandFailed
from gateway.cli.flag_words import in_flags
from gateway.cli.output import Column, JsonFlag, WideFlag, moments, note, short_ids, show, show_json, show_table
from gateway.cli.short_ids import the_only_one
from gateway.objects.keys import IssuedKeyObject, KeyObject
from gateway.objects.lists import ObjectList
from registry.wording.id_parts import begins

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
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the key, as the audit log shows it.")],
    scopes: Annotated[
        str | None,
        typer.Option(
            metavar="SCOPES",
            help="Scopes: inference, training, metrics, admin; default inference, for the first key all.",
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(metavar="MODELS", help="Base models, adapters and NAME@N that the key may use; default all."),
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Default: no limit.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="Default: no limit.")] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Requests at a time; default: no limit.")] = None,
    priority: Annotated[
        str, typer.Option(metavar="PRIORITY", help="Priority of its requests: high, normal or low.")
    ] = "normal",
    owner: Annotated[str, typer.Option(metavar="PERSON", help="Person or team to ask about the key.")] = "",
    tenant: Annotated[
        str | None,
        typer.Option(
            metavar="TENANT",
            help="Keys of one tenant share their files, jobs and adapters; default a tenant of its own name.",
        ),
    ] = None,
    home: HomeFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Create a key and print its secret, which is shown only once."""
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
    note(f"{made.id} {made.name}: {', '.join(made.scopes)}. The secret is shown only once:")
    typer.echo(made.key)
    note("Commands take it from LORRY_API_KEY, OpenAI's SDK from OPENAI_API_KEY.")


@app.command("list")
def list_keys(
    every: Annotated[bool, typer.Option("--all", help="List revoked keys too.")] = False,
    wide: WideFlag = False,
    home: HomeFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List keys with their scopes and limits, never their secrets."""
    with _keys(home) as keys:
        found = [key for key in keys.list() if every or key.revoked_at is None]
    if as_json:
        show_json(found)
        return
    shown = [field for field in _FIELDS if every or field[0] is not _REVOKED]
    rows = [[value(key) for _, value in shown] for key in found]
    empty = "No keys: everybody on this machine may do everything. `lorry keys create` makes one."
    show_table([column for column, _ in shown], rows, empty, wide=wide)


@app.command("revoke")
def revoke(
    key: KeyName,
    home: HomeFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Revoke a key; requests that are in flight are still answered."""
    with _keys(home) as keys:
        revoked = keys.revoke(_whole(keys.list(), key))
    if as_json:
        show_json(revoked)
    else:
        show(f"{revoked.id} {revoked.name} is revoked")


def _whole(keys: Sequence[KeyObject], typed: str) -> str:
    """Return *typed* where it is the name of a valid key, else the id of the valid key that begins with it."""
    valid = [key for key in keys if key.revoked_at is None]
    if any(key.name == typed for key in valid):
        return typed
    return the_only_one("key", typed, lambda: [key.id for key in valid if begins(key.id, typed)])


def _listed(words: str | None) -> list[str] | None:
    """Return ["a", "b"] for `a, b`."""
    return None if words is None else [word.strip() for word in words.split(",") if word.strip()]


_FLAGS: Final = {
    **{name: f"--{name}" for name in ("name", "scopes", "models", "owner", "tenant", "priority")},
    "requests_per_minute": "--requests-per-minute",
    "tokens_per_minute": "--tokens-per-minute",
    "concurrent_requests": "--concurrent",
}
"""Field of the request for a key -> its flag."""
_EVERY_SCOPE: Final = frozenset({"admin", "inference", "metrics", "training"})


def _scopes(key: KeyObject) -> str:
    return "all" if set(key.scopes) >= _EVERY_SCOPE else ",".join(key.scopes)


def _limits(key: KeyObject) -> str:
    """Return `60rpm,10000tpm,4conc`, empty without any limit: requests and tokens in a minute, requests at a time."""
    limits = ((key.requests_per_minute, "rpm"), (key.tokens_per_minute, "tpm"), (key.concurrent_requests, "conc"))
    return ",".join(f"{limit}{unit}" for limit, unit in limits if limit is not None)


_REVOKED: Final = Column("REVOKED", 1, moments)
_FIELDS: Final[Sequence[tuple[Column, Callable[[KeyObject], Any]]]] = (
    (Column("NAME"), lambda key: key.name),
    (Column("KEY", 1, short_ids), lambda key: key.id),
    (Column("SCOPES", 2), _scopes),
    (_REVOKED, lambda key: key.revoked_at),
    (Column("LAST USED", 3, moments), lambda key: key.last_used_at),
    (Column("LIMITS", 4), _limits),
    (Column("MODELS", 5), lambda key: "all" if key.models is None else ",".join(key.models)),
    (Column("SECRET", 7), lambda key: key.hint),
    (Column("PRIORITY", 8), lambda key: key.priority),
    (Column("TENANT", 9), lambda key: key.tenant),
    (Column("CREATED", 6, moments), lambda key: key.created_at),
    (Column("OWNER", 10), lambda key: key.owner),
)
"""The columns of `lorry keys list`, each with what it has of a key."""


class _KeysAtGateway:
    """The keys of a gateway."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, body: dict[str, Any]) -> IssuedKeyObject:
        return self._client.post("/admin/keys", IssuedKeyObject, body)

    def list(self) -> list[KeyObject]:
        return self._client.get("/admin/keys", ObjectList[KeyObject]).data

    def revoke(self, id_or_name: str) -> KeyObject:
        return self._client.delete(f"/admin/keys/{part(id_or_name)}", KeyObject)


@contextmanager
def _keys(home: bool) -> Iterator[_Keys]:
    """Open the keys of the gateway at LORRY_URL, or of the registry that LORRY_HOME and LORRY_CONFIG name."""
    if not home:
        with Client(flags=_FLAGS) as client:
            yield _KeysAtGateway(client)
        return
    from gateway.cli.home_keys import keys_at_home

    with keys_at_home() as keys:
        try:
            yield keys
        except CommandFailed as exc:
            raise CommandFailed(in_flags(str(exc), _FLAGS)) from exc
