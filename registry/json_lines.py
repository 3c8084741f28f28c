"""Log records as lines of JSON, for every process of Lorry: a constant message with its facts beside it."""

from __future__ import annotations

import json
import logging
from textwrap import indent
from traceback import format_exception_only
from typing import Any, Final

_INDENT: Final = "    "
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object: time, level, logger, message, the facts of `extra`, the exception.

    A traceback follows for people, each line indented: a program skips every line that does not begin with `{`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as a line, and the lines of its traceback."""
        line: dict[str, Any] = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _OWN}
        traceback = ""
        if record.exc_info and (error := record.exc_info[1]) is not None:
            line["exception"] = "".join(format_exception_only(error)).strip()
            traceback = f"\n{indent(self.formatException(record.exc_info), _INDENT, lambda _: True)}"
        return json.dumps(line, default=str) + traceback
