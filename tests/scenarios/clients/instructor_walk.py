"""Instructor: models by tools, by JSON mode and by a schema, whole and streamed."""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

import instructor
import openai
from instructor.exceptions import IncompleteOutputException, InstructorRetryException
from pydantic import BaseModel
from steps import BASE_URL, CITY_QUESTION, MODEL, done, expect


class City(BaseModel):
    """A city."""

    is_capital: bool
    river: Literal["Seine", "Tiber"]


def main() -> None:
    """Walk through the modes."""
    done("client", version=version("instructor"))
    plain = openai.OpenAI(base_url=BASE_URL, api_key="none", max_retries=0)
    messages = [{"role": "user", "content": CITY_QUESTION}]
    for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.JSON, instructor.Mode.TOOLS):
        client = instructor.from_openai(plain, mode=mode)
        fields = {"model": MODEL, "messages": messages, "max_tokens": 40, "max_retries": 0, "temperature": 0}
        try:
            found = client.chat.completions.create(response_model=City, **fields)
            expect(isinstance(found, City), found)
        except (IncompleteOutputException, InstructorRetryException) as exc:
            # JSON mode promises JSON, not the schema, which a small model does not follow, nor an end of it.
            expect(mode is instructor.Mode.JSON, exc)
        done(mode.name)


if __name__ == "__main__":
    main()
