"""Every error that pydantic can raise for what people write is told in our words, which name what would be right."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, get_args

import pytest
from pydantic import BaseModel, Field, IPvAnyAddress, TypeAdapter, ValidationError
from pydantic_core import core_schema

from registry.states import Priority
from registry.wording.field_faults import SENTENCES, fault_in, text_of, written_as
from registry.wording.known_fields import KnownFields

PYDANTICS: Final = re.compile(
    r"[Ii]nput|valid |dictionary|required|Extra|[Ss]tring should|should|unable|instance|NoneType|\bNone\b|"
    r"pydantic|integer|boolean|Value error|True|False|\{"
)
OF_PYTHON: Final = frozenset(
    {
        *("no_such_attribute", "get_attribute_error", "needs_python_object", "frozen_field", "frozen_instance"),
        *("default_factory_not_called", "missing_sentinel_error", "ellipsis_error", "is_instance_of"),
        *("is_subclass_of", "callable_type"),
    }
)
"""Types that are about objects of Python: no JSON, no TOML and no form can cause them."""


@pytest.mark.parametrize("kind", sorted(set(get_args(core_schema.ErrorType)) - OF_PYTHON))
def test_every_type_of_error_has_a_sentence_of_ours(kind: str) -> None:
    places = re.findall(r"\{(\w+)\}", SENTENCES.get(kind, ""))
    context = {"error": "the reason", **{name: "7" for name in places if name != "error"}}
    error = {"type": kind, "loc": ("field",), "msg": "Input should be a valid thing", "input": "x", "ctx": context}
    text = text_of(error)
    assert PYDANTICS.search(text) is None, text
    assert text.split()[0] in ("must", "is", "the"), text


class Inner(KnownFields):
    port: int = 1


class Order(KnownFields):
    name: Annotated[str, written_as("[a-z]+", "small letters")] = "a"
    count: Annotated[int, Field(ge=1, le=9)] = 1
    share: float | None = None
    size: int | Literal["auto"] = 1
    priority: Priority = Priority.NORMAL
    names: Annotated[list[str], Field(min_length=1, max_length=2)] | None = None
    text: Annotated[str, Field(max_length=3)] = ""
    inner: Inner = Inner()
    host: IPvAnyAddress | None = None
    is_on: bool = False
    flags: frozenset[Literal["a", "b"]] = frozenset()
    must: int


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "must: is missing"),
        ({"name": "A"}, "name: must be small letters"),
        ({"name": 3}, "name: must be a string"),
        ({"count": 0}, "count: must be at least 1, not 0"),
        ({"count": 10}, "count: must be at most 9, not 10"),
        ({"count": "two"}, 'count: must be a whole number, not "two"'),
        ({"count": 1.5}, "count: must be a whole number, not 1.5"),
        ({"count": None}, "count: must be a whole number"),
        ({"share": "x"}, 'share: must be a number, not "x"'),
        ({"size": "big"}, 'size: must be a whole number or auto, not "big"'),
        ({"priority": "urgent"}, 'priority: must be high, normal or low, not "urgent"'),
        ({"names": []}, "names: must have at least 1 entry"),
        ({"names": "a"}, "names: must be a list"),
        ({"names": ["a", 2]}, "names.1: must be a string"),
        ({"text": "long"}, "text: must have at most 3 characters"),
        ({"inner": 3}, "inner: must be an object"),
        ({"inner": {"prot": 1}}, "inner: unknown field prot; did you mean 'port'?"),
        ({"nam": "a"}, "unknown field nam; did you mean 'name'?"),
        ({"host": "here"}, "host: must be an IP address, such as 127.0.0.1 or 0.0.0.0"),
        ({"is_on": "maybe"}, 'is_on: must be true or false, not "maybe"'),
        ({"flags": ["c"]}, 'flags.0: must be a or b, not "c"'),
    ],
)
def test_a_fault_names_the_field_and_what_would_be_right(given: dict[str, Any], sentence: str) -> None:
    whole = given if sentence.startswith("must: ") else {"must": 1, **given}
    with pytest.raises(ValidationError) as caught:
        Order.model_validate(whole)
    assert fault_in(whole, caught.value).sentence == sentence
    assert PYDANTICS.search(fault_in(whole, caught.value).sentence) is None


def test_a_field_that_is_like_no_other_lists_the_fields() -> None:
    with pytest.raises(ValidationError) as caught:
        Order.model_validate({"must": 1, "zzz": 1})
    assert fault_in({"zzz": 1}, caught.value).text.startswith("unknown field zzz; there are: name, count, share")


def test_a_model_that_lists_no_fields_gets_them_from_the_caller() -> None:
    class Plain(BaseModel, extra="forbid"):
        threads: int = 1

    with pytest.raises(ValidationError) as caught:
        Plain.model_validate({"thread": 1})
    fault = fault_in({"thread": 1}, caught.value, ["threads"])
    assert (fault.sentence, fault.field) == ("unknown field thread; did you mean 'threads'?", "thread")


def test_json_that_is_none_says_where() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Order).validate_json(b"{")
    assert fault_in(None, caught.value).sentence.startswith("is not JSON: EOF while parsing")
