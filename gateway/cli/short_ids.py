"""Whole ids for the short ones that people type: one resolver for jobs, files, keys, rollouts and revisions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import typer

from gateway.cli.client import Client
from gateway.cli.errors import CommandFailed
from gateway.objects.lists import FoundId, ObjectList

_WHOLE: Final = re.compile(r"[a-z]+[-_](?:[0-9a-f]{24}|[0-9a-f]{16}|(?<=ro-)[0-9a-f]{12})")
_DIGEST: Final = re.compile(r"[0-9a-f]{4,64}")
_ROLLOUT: Final = re.compile(r"ro-[0-9a-f]{4,12}")


def whole_id(client: Client, kind: str, typed: str) -> str:
    """Return the id of *kind* that begins with *typed*; *typed* itself where nothing does, so that its use answers 404.

    Raises `CommandFailed`, which lists the candidates, if several do.
    """
    if _WHOLE.fullmatch(typed):
        return typed
    return the_only_one(kind, typed, lambda: _found(client, kind, typed))


def rollout_id(client: Client, typed: str) -> str | None:
    """Return the id of the rollout that *typed* is the beginning of; None if *typed* has not the form of one."""
    if _ROLLOUT.fullmatch(typed) is None:
        return None
    found = the_only_one("rollout", typed, lambda: _found(client, "rollout", typed))
    return found if _WHOLE.fullmatch(found) else None


def revision_of_digest(client: Client, typed: str) -> str | None:
    """Return NAME@N of the revision whose artifact's digest begins with *typed*; None if there is none."""
    if _DIGEST.fullmatch(typed) is None:
        return None
    found = the_only_one("revision", typed, lambda: _found(client, "revision", typed))
    return found if "@" in found else None


def split_name(name: str) -> tuple[str, int | None]:
    """Return ("support", 7) for `support@7`, ("support", None) for `support`. Exit code 2 for another form."""
    adapter_name, at, number = name.partition("@")
    if not at:
        return adapter_name, None
    if not number.isdigit():
        raise typer.BadParameter(f"{name!r} is not a revision; write NAME@N, for example {adapter_name}@2")
    return adapter_name, int(number)


def revision_name(name: str) -> tuple[str, int]:
    """Return ("support", 7) for `support@7`. Exit code 2 without a number."""
    adapter_name, number = split_name(name)
    if number is None:
        raise typer.BadParameter(f"{name!r} names no revision; write NAME@N, for example {name}@2")
    return adapter_name, number


def revision_named(client: Client, typed: str) -> tuple[str, int]:
    """Return ("support", 7) for `support@7`, or for the beginning of the digest of its artifact."""
    return revision_name(typed if "@" in typed else revision_of_digest(client, typed) or typed)


def the_only_one(kind: str, typed: str, find: Callable[[], Sequence[str]]) -> str:
    """Return the only id that is found, *typed* if there is none; `CommandFailed` lists several."""
    found = find()
    if len(found) > 1:
        raise CommandFailed(f"{typed!r} is the beginning of several {kind}s; type more of one: {', '.join(found)}")
    return found[0] if found else typed


def _found(client: Client, kind: str, typed: str) -> list[str]:
    return [each.id for each in client.get("/admin/ids", ObjectList[FoundId], kind=kind, prefix=typed).data]
