"""The common parts of the clients' programs: the gateway and the model that they ask, and how they report a step.

Each of these programs runs in the environment of its client, and writes a line of JSON for each step that went well.
"""

from __future__ import annotations

import json
import os

BASE_URL = os.environ["LORRY_URL"] + "/v1"
MODEL = os.environ["LORRY_MODEL"]
ENCODER = os.environ["LORRY_ENCODER"]
"""A model that turns texts into vectors of 384 numbers."""
CITY_QUESTION = "Which city is the capital of France, and which river flows through it?"
WEATHER_QUESTION = "What is the weather in Paris?"


def done(step: str, **facts: object) -> None:
    """Report a step."""
    print(json.dumps({"step": step, **facts}, default=str), flush=True)


def expect(claim: object, what: object) -> None:
    """End the program unless the claim holds."""
    if not claim:
        raise SystemExit(f"not as expected: {what}")
