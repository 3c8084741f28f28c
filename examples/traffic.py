"""Send conversations to a model at a steady rate with the OpenAI client, and show which revision answers them.

    python examples/traffic.py --model support --rate 2 --for 10m
    python examples/traffic.py --model support --prompts examples/support.jsonl --good "ticket: "

Each conversation has a user of its own, so that a rollout's share of the conversations is its share of the requests.
The prompts are a few questions to a shop, or the first user messages of a training file, or the lines of a text file.
With `--good` every answer is rated by `POST /v1/feedback`: good if the regular expression is found in it, else bad.
The program ends after `--for`, after `--conversations`, or on Ctrl-C; its exit code is 1 if no request was answered.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final

import openai

PROMPTS: Final = (
    "Where is my teapot?",
    "My kettle arrived with a dent.",
    "Can I send the mug set back?",
    "How long does delivery to Porto take?",
    "I was charged two times.",
    "How do I reset my password?",
    "Do you sell gift cards?",
    "The toaster does not switch on.",
)
UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
MOST_AT_A_TIME: Final = 64
"""Conversations under way; where the model is slower than the rate, the next ones begin later."""


@dataclass(slots=True)
class Answers:
    """The outcomes since the last report; threads add to them under the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    revisions: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    good: int = 0
    rated: int = 0


def main() -> int:
    """Send the traffic and return the exit code."""
    asked = parse()
    client = openai.OpenAI(base_url=asked.url, api_key=asked.key, max_retries=0, timeout=120.0)
    answers, total = Answers(), Counter[str]()
    say(f"{asked.rate:g} conversations a second with {asked.model} at {asked.url}; Ctrl-C ends them")
    until = time.monotonic() + asked.for_s
    reported_at = begins_at = time.monotonic()
    places = threading.Semaphore(MOST_AT_A_TIME)
    run = f"traffic-{os.getpid()}-{int(time.time())}"
    with ThreadPoolExecutor(MOST_AT_A_TIME) as pool, suppress(KeyboardInterrupt):
        for number in count():
            if time.monotonic() >= until or number == asked.conversations:
                break
            places.acquire()  # released by the conversation
            prompt = asked.prompts[number % len(asked.prompts)]
            pool.submit(converse, client, asked, prompt, f"{run}-{number}", answers, places)
            begins_at = max(begins_at + 1 / asked.rate, time.monotonic() - 1.0)
            time.sleep(max(0.0, begins_at - time.monotonic()))
            if time.monotonic() - reported_at >= asked.report_s:
                total += report(answers, time.monotonic() - reported_at)
                reported_at = time.monotonic()
    total += report(answers, time.monotonic() - reported_at)
    shares = ", ".join(f"{name} {number} ({number / total.total():.0%})" for name, number in total.most_common())
    say(f"in all {total.total()} answers: {shares}" if total else "no request was answered")
    return 0 if total else 1


def converse(  # noqa: PLR0913  a conversation is exactly these facts
    client: openai.OpenAI,
    asked: argparse.Namespace,
    prompt: str,
    user: str,
    answers: Answers,
    places: threading.Semaphore,
) -> None:
    """Ask one question as a new user and count what comes back."""
    began = time.monotonic()
    try:
        answer = client.chat.completions.create(
            model=asked.model,
            messages=[{"role": "user", "content": prompt}],
            user=user,
            max_tokens=asked.max_tokens,
            temperature=asked.temperature,
        )
        with answers.lock:
            answers.revisions[answer.model] += 1
            answers.seconds.append(time.monotonic() - began)
        if asked.good is not None:
            rate(client, answer.id, asked.good.search(answer.choices[0].message.content or "") is not None, answers)
    except openai.APIStatusError as exc:
        with answers.lock:
            answers.failures[f"{exc.status_code} {exc.code or ''}".strip()] += 1
    except openai.OpenAIError as exc:
        with answers.lock:
            answers.failures[type(exc).__name__] += 1
    finally:
        places.release()


def rate(client: openai.OpenAI, completion_id: str, is_good: bool, answers: Answers) -> None:
    """Rate one answer as its user would."""
    body = {"completion_id": completion_id, "label": "good" if is_good else "bad"}
    client.post("/feedback", cast_to=object, body=body)
    with answers.lock:
        answers.rated += 1
        answers.good += is_good


def report(answers: Answers, over_s: float) -> Counter[str]:
    """Print what came back since the last report, and return the answers by revision."""
    with answers.lock:
        revisions, failures, seconds = answers.revisions, answers.failures, answers.seconds
        rated = f", {answers.good} of {answers.rated} rated good" if answers.rated else ""
        answers.revisions, answers.failures, answers.seconds = Counter(), Counter(), []
        answers.good = answers.rated = 0
    shares = ", ".join(f"{name} {number}" for name, number in sorted(revisions.items())) or "no answer"
    speed = f", median {median(seconds):.2f} s" if seconds else ""
    failed = "".join(f", {number} failed ({why})" for why, number in failures.most_common())
    say(f"{revisions.total() / max(over_s, 0.1):4.1f} answers/s: {shares}{speed}{rated}{failed}")
    return revisions


def read_prompts(name: str) -> tuple[str, ...]:
    """Return the first user message of each chat of a JSONL file, or the lines of any other file."""
    try:
        lines = [line for line in Path(name).read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as exc:
        raise argparse.ArgumentTypeError(f"{name} cannot be read: {exc}") from exc
    if not lines:
        raise argparse.ArgumentTypeError(f"{name} has no prompt")
    return tuple(map(first_question, lines, count(1))) if name.endswith(".jsonl") else tuple(lines)


def first_question(line: str, number: int) -> str:
    """Return what the user of a chat asked first."""
    try:
        messages = json.loads(line)["messages"]
        return str(next(message["content"] for message in messages if message["role"] == "user"))
    except (ValueError, KeyError, TypeError, StopIteration) as exc:
        raise argparse.ArgumentTypeError(f"line {number} is not a chat with a user's message") from exc


def duration(text: str) -> float:
    """Return the seconds of `90s`, `10m` or `1h`."""
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS_S or not number.replace(".", "", 1).isdigit() or float(number) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s, 10m or 1h")
    return float(number) * UNITS_S[unit]


def whole(text: str) -> int:
    """Return *text* as a whole number from 1."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def pattern(text: str) -> re.Pattern[str]:
    """Return *text* as a regular expression."""
    try:
        return re.compile(text)
    except re.error as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {exc}") from exc


def positive(text: str) -> float:
    """Return *text* as a number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    url = os.environ.get("LORRY_URL", "http://127.0.0.1:8080").rstrip("/").removesuffix("/v1")
    parser.add_argument("--model", required=True, help="adapter, NAME@N or base model")
    parser.add_argument("--url", default=f"{url}/v1", help="address with /v1 (default: LORRY_URL's, %(default)s)")
    parser.add_argument(
        "--key", default=os.environ.get("LORRY_API_KEY", "none"), help="API key (default: LORRY_API_KEY)"
    )
    parser.add_argument("--rate", type=positive, default=2.0, help="conversations a second (default %(default)g)")
    parser.add_argument("--for", dest="for_s", type=duration, default=86400.0, metavar="TIME", help="90s, 10m, 1h")
    parser.add_argument("--conversations", type=whole, help="end after so many")
    parser.add_argument(
        "--prompts",
        type=read_prompts,
        default=PROMPTS,
        metavar="FILE",
        help="JSONL training file, or a text file with a prompt on each line",
    )
    parser.add_argument("--max-tokens", type=whole, default=64, help="longest answer (default %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.0, help="from 0, always the likeliest word (default 0)")
    parser.add_argument("--good", type=pattern, metavar="REGEX", help="rate answers: good where REGEX is found")
    parser.add_argument(
        "--report-s", type=positive, default=10.0, help="seconds between two lines (default %(default)g)"
    )
    return parser.parse_args()


def say(text: str) -> None:
    """Print a line with the time, at once also into a pipe."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
