"""DSPy: a signature by its adapters for chat and for JSON, and a stream."""

from __future__ import annotations

from importlib.metadata import version

import dspy
from steps import BASE_URL, CITY_QUESTION, MODEL, done, expect


class Answer(dspy.Signature):
    """Answer the question."""

    question: str = dspy.InputField()
    is_capital: bool = dspy.OutputField()


def main() -> None:
    """Walk through the adapters."""
    done("client", version=version("dspy"))
    lm = dspy.LM(f"openai/{MODEL}", api_base=BASE_URL, api_key="none", max_tokens=40, cache=False, num_retries=0)
    expect(lm("Say hello.")[0], "chat")
    done("chat")
    # DSPy does not know that this model's output can be enforced, unless it is told.
    adapter = dspy.JSONAdapter()
    with dspy.context(lm=lm, adapter=adapter):
        try:
            expect(isinstance(dspy.Predict(Answer)(question=CITY_QUESTION).is_capital, bool), "is_capital")
            done("structured")
        except dspy.utils.exceptions.AdapterParseError as exc:
            done("structured", parsed=str(exc)[:100])


if __name__ == "__main__":
    main()
