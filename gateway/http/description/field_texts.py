"""The sentences below the fields of our models, as descriptions in their schemas.

Pydantic reads them too, but while it builds a class: the models are also the command line's, which would pay for that.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from gateway.objects.lists import ApiObject
from registry.wording.known_fields import KnownFields


def add_field_texts(schemas: dict[str, Any]) -> None:
    """Add the sentence below each field to its property in *schemas*, where that has no description."""
    texts = {model.__name__: _texts_of(model) for root in (ApiObject, KnownFields) for model in _below(root)}
    for name, schema in schemas.items():
        for field, text in texts.get(name, {}).items():
            found = schema.get("properties", {}).get(field)
            if found is not None and "$ref" not in found:
                found.setdefault("description", text)


def _below(root: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in root.__subclasses__():
        yield model
        yield from _below(model)


def _texts_of(model: type[BaseModel]) -> dict[str, str]:
    """Return the text of each field of a model, those of its own bases first."""
    texts: dict[str, str] = {}
    for part in reversed(model.__mro__):
        if part.__module__.partition(".")[0] in ("gateway", "registry"):
            texts |= _written_in(part)
    return texts


def _written_in(part: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(part))
    except (OSError, TypeError):  # a class that was made at run time
        return {}
    body = next(ast.iter_child_nodes(ast.parse(source)))
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - the source of a class
    found: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            value = text.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[field.target.id] = " ".join(value.value.split())
    return found
