"""The offer of a chat to the model: the tools that it is shown, and the form that its answer then has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from conversations.call_forms import CALL_FORMS, CallForm
from engines.transformers.calls.call_rule import CallableFunction, CallRule
from engines.transformers.constraints.grammars import AnswerRule
from engines.transformers.constraints.output_rules import OutputRule
from engines.transformers.errors import BadRequest
from engines.transformers.requests.tools import ToolFields, ToolFunction, ToolUse


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOffer:
    """The tools of one chat."""

    shown: tuple[Mapping[str, Any], ...] = ()
    """Tools that the model reads."""
    rule: AnswerRule | None
    """The form of an answer, None for free text."""
    read_form: CallForm | None = None
    """The form in which the answer may call functions; None where it may not."""


def tool_offer(fields: ToolFields, content: OutputRule | None, form: CallForm | None) -> ToolOffer:
    """Return the offer of a chat whose text has the form *content*, to a model that writes calls in *form*.

    `BadRequest` for what cannot be done with this model.
    """
    use = fields.tool_use
    if use is None:
        return ToolOffer(rule=content)
    if form is None:
        raise BadRequest(_UNKNOWN_FORM, param="tools", code="unsupported_parameter")
    if not use.may_call:
        # A model that is not shown the tools is still kept from calls, which it may have seen in earlier turns.
        return ToolOffer(rule=content or _rule(form, use, functions=(), content=None))
    if content is not None and not use.is_required and not form.may_follow_text:
        wording = f"{content.param} cannot be enforced beside tools: this model's calls are JSON too"
        raise BadRequest(wording, param=content.param, code="unsupported_parameter")
    shown = tuple(tool.as_declared() for tool in fields.tools)
    functions = tuple(_function(at, function) for at, function in use.functions)
    return ToolOffer(shown=shown, rule=_rule(form, use, functions=functions, content=content), read_form=form)


_UNKNOWN_FORM: Final = (
    "tools are not supported with this model: its chat template writes calls in a form that this engine does not read; "
    f"it reads those of {', '.join(form.name for form in CALL_FORMS)}"
)


def _rule(
    form: CallForm, use: ToolUse, *, functions: tuple[CallableFunction, ...], content: OutputRule | None
) -> CallRule:
    return CallRule(
        form=form,
        functions=functions,
        is_required=use.is_required,
        may_be_several=use.may_be_several,
        content=content,
    )


def _function(at: int, function: ToolFunction) -> CallableFunction:
    schema = function.parameters
    return CallableFunction(
        name=function.name,
        schema=None if schema is None else orjson.dumps(schema).decode(),
        is_strict=function.strict,
        param=f"tools[{at}].function.parameters",
    )
