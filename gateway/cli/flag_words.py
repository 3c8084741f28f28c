"""The gateway's refusals in the words of a command line: flags in place of the fields of a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_HYPERPARAMETER: Final = re.compile(r"\bmethod\.\w+\.hyperparameters\.(\w+)")
_HYPERPARAMETERS: Final = re.compile(r"\b(?:method\.\w+\.)?hyperparameters\b")


def in_flags(message: str, flags: Mapping[str, str]) -> str:
    """Return *message* with the flag in place of each field in *flags*.

    A field that is one word, such as `name`, is replaced only at the beginning, where a refusal names its field;
    elsewhere it may be a word of the sentence or of the user.
    """
    message = _HYPERPARAMETER.sub(r"--set \1", message)
    message = _HYPERPARAMETERS.sub("--set", message)
    for field in sorted(flags, key=len, reverse=True):
        name = re.escape(field)
        message = re.sub(rf"^{name}(?:\.\d+)*(?=[:. ]|$)", flags[field], message)
        if not field.isalpha():
            message = re.sub(rf"(?<![\w'\".-]){name}(?![\w'\"])", flags[field], message)
    return message.replace("unknown field", "unknown option")
