"""Servers of other kinds give answers the forms of which their row says that they enforce them."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import jsonschema
import pytest

from engines.catalog import ENGINES
from tests.contract.engine_host import EngineHost
from tests.contract.kinds import FOREIGN

CHAT: Final = "/v1/chat/completions"
PATTERN: Final = "[0-9]{3}(-[0-9]{2}){2}"
SHAPE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "country": {"enum": ["France", "Spain"]},
        "people": {"type": "integer", "minimum": 10, "maximum": 99},
        "size": {
            "oneOf": [
                {"type": "object", "properties": {"by": {"const": "km"}}, "required": ["by"]},
                {"type": "null"},
            ]
        },
    },
    "required": ["country", "people", "size"],
    "additionalProperties": False,
}
AS_PATTERN: Final[dict[str, dict[str, Any]]] = {
    "vllm": {"structured_outputs": {"regex": PATTERN}},
    "sglang": {"regex": PATTERN},
    "lmdeploy": {"response_format": {"type": "regex_schema", "regex_schema": PATTERN}},
}

pytestmark = pytest.mark.parametrize("kind", FOREIGN, indirect=True)


def test_answers_keep_to_a_schema_and_to_a_pattern(host: EngineHost) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "shape", "schema": SHAPE, "strict": True}}
    for temperature in (0, 1):
        answer = host.chat(response_format=form, max_tokens=200, temperature=temperature)["choices"][0]
        assert answer["finish_reason"] == "stop"
        jsonschema.validate(json.loads(answer["message"]["content"]), SHAPE)
    text = host.chat(**AS_PATTERN[host.kind], max_tokens=40)["choices"][0]["message"]["content"]
    assert re.fullmatch(PATTERN, text)


def test_what_the_server_knows_to_be_beyond_it_is_refused(host: EngineHost) -> None:
    broken = json.loads(json.dumps(AS_PATTERN[host.kind]).replace(PATTERN, "(?=a)b"))
    for fields in (broken, {"response_format": {"type": "no-such-form"}}):
        answer = host.http.post(CHAT, json=host.body(**fields))
        assert answer.status_code in (400, 422), answer.text


def test_fields_that_the_row_does_not_list_are_passed_over(host: EngineHost) -> None:
    """So that a server which reads one after an update is noticed."""
    forms = ENGINES[host.kind].output_forms
    assert forms is not None
    chosen: dict[str, Any] = {
        "regex": "zq",
        "guided_regex": "zq",
        "structured_outputs": {"regex": "zq"},
        "ebnf": 'root ::= "zq"',
    }
    for field in sorted(chosen.keys() - forms.fields[CHAT]):
        answer = host.chat(**{field: chosen[field]}, max_tokens=8)
        assert answer["choices"][0]["message"]["content"] != "zq", field
