"""Forms that a request may prescribe for its answer: a JSON Schema, a regular expression, a choice, a grammar.

The names are OpenAI's (`response_format`), and those of vLLM: `structured_outputs`, and `guided_...` before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

import orjson
from llguidance import LLMatcher, grammar_from
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from engines.transformers.constraints.closed_objects import closed
from engines.transformers.requests.parsing import TOO_DEEP, Fields, is_deep, json_kind, must

_ANY_OBJECT: Final = '{"type":"object"}'
_NAME: Final = r"^[A-Za-z0-9_-]{1,64}$"


class OutputRule(NamedTuple):
    """The form of an answer."""

    kind: Literal["json_schema", "regex", "grammar"]
    text: str
    param: str
    """The field that has the rule, for messages about it."""

    def grammar(self, _explain: Callable[[str], str], _special: Mapping[str, int]) -> str:
        """Return the grammar for llguidance; `ValueError` says why there is none."""
        return schema_grammar(self.text) if self.kind == "json_schema" else grammar_from(self.kind, self.text)

    @property
    def named_grammar(self) -> dict[str, Any]:
        """The grammar as a member of a larger one; `ValueError` says why there is none."""
        if self.kind == "grammar":
            return {"lark_grammar": grammar_from(self.kind, self.text)}
        text = schema_grammar(self.text) if self.kind == "json_schema" else grammar_from(self.kind, self.text)
        found: dict[str, Any] = orjson.loads(text)["grammars"][0]
        return found


def schema_grammar(schema: str) -> str:
    """Return the grammar of JSON by *schema* with its objects closed; `ValueError` where it is not one."""
    # A small model that may write blanks without end does: each place of JSON has one way to be written here.
    grammar: str = LLMatcher.grammar_from_json_schema(
        orjson.dumps(closed(orjson.loads(schema))).decode(),
        overrides={
            "item_separator": ", ",
            "key_separator": ": ",
            "whitespace_flexible": False,
            "coerce_one_of": False,
            "lenient": False,
        },
    )
    return grammar


def _schema(value: Any) -> Any:
    """Return a JSON Schema, which some clients send as a string, as an object."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as exc:
            raise must("must be a JSON Schema; the string is not JSON") from exc
        if is_deep(value):
            raise must(TOO_DEEP)
    if not isinstance(value, dict):
        raise must(f"must be a JSON Schema, which is an object, not {json_kind(value)}")
    return value


def _distinct(choices: list[str]) -> list[str]:
    if not all(choices):
        raise must("must not have an empty string: an answer has at least one character")
    return list(dict.fromkeys(choices))


Schema = Annotated[dict[str, Any], BeforeValidator(_schema)]
Choices = Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]
Text = Annotated[str, Field(min_length=1)]


class JsonSchemaFormat(Fields):
    """The schema of `response_format`; it is enforced with `strict` or without."""

    name: Annotated[str, Field(pattern=_NAME)] = "answer"
    description: str | None = None
    schema_: Annotated[Schema, Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Fields):
    """Free text, a JSON object, or JSON by a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise must('must have json_schema, as its type is "json_schema"')
        if self.type != "json_schema" and self.json_schema is not None:
            raise must(f'must not have json_schema, as its type is "{self.type}"')
        return self


class StructuredOutputs(Fields):
    """vLLM's `structured_outputs`."""

    json_: Annotated[Schema | None, Field(alias="json")] = None
    regex: Text | None = None
    choice: Choices | None = None
    grammar: Text | None = None
    json_object: bool = False


class OutputRules(Fields):
    """The fields of a completion that prescribe the form of its text; at most one of them may."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | None = None
    guided_regex: Text | None = None
    guided_choice: Choices | None = None
    guided_grammar: Text | None = None

    @property
    def output_rule(self) -> OutputRule | None:
        """The form that the answer must have, None for free text."""
        return next(iter(self._rules()), None)

    @model_validator(mode="after")
    def _has_one_rule(self) -> Self:
        rules = self._rules()
        if len(rules) > 1:
            raise must(f"must prescribe one form of the answer, not {' and '.join(rule.param for rule in rules)}")
        return self

    def _rules(self) -> list[OutputRule]:
        form, outputs = self.response_format, self.structured_outputs or StructuredOutputs()
        found: list[OutputRule | None] = [
            _by_schema(self.guided_json, "guided_json"),
            _by_text("regex", self.guided_regex, "guided_regex"),
            _by_choice(self.guided_choice, "guided_choice"),
            _by_text("grammar", self.guided_grammar, "guided_grammar"),
            _by_schema(outputs.json_, "structured_outputs.json"),
            _by_text("regex", outputs.regex, "structured_outputs.regex"),
            _by_choice(outputs.choice, "structured_outputs.choice"),
            _by_text("grammar", outputs.grammar, "structured_outputs.grammar"),
            OutputRule("json_schema", _ANY_OBJECT, "structured_outputs.json_object") if outputs.json_object else None,
        ]
        if form is not None and form.json_schema is not None:
            found.append(_by_schema(form.json_schema.schema_, "response_format.json_schema.schema"))
        elif form is not None and form.type == "json_object":
            found.append(OutputRule("json_schema", _ANY_OBJECT, "response_format"))
        return [rule for rule in found if rule is not None]


def _by_schema(schema: dict[str, Any] | None, param: str) -> OutputRule | None:
    return None if schema is None else OutputRule("json_schema", orjson.dumps(schema).decode(), param)


def _by_text(kind: Literal["regex", "grammar"], text: str | None, param: str) -> OutputRule | None:
    return None if text is None else OutputRule(kind, text, param)


def _by_choice(choices: list[str] | None, param: str) -> OutputRule | None:
    """Return a grammar of the choices: their strings are written alike in JSON and in Lark."""
    if choices is None:
        return None
    return OutputRule("grammar", f"start: {' | '.join(orjson.dumps(choice).decode() for choice in choices)}", param)
