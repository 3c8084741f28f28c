"""Measure what clients feel of a batch that runs beside them, and how fast a batch is beside the same lines by hand.

    python bench/batches/beside_clients.py clients URL MODEL [--rounds 6] [--seconds 20] [--clients 2]
    python bench/batches/beside_clients.py throughput URL MODEL [--rounds 3] [--lines 120] [--threads 16]

URL is that of a running Lorry without keys. `clients` alternates between rounds without and with a batch in progress.
In each, *clients* chat in streams, with a pause between two chats, and the program prints median and 95th percentile of
the time to the first token and of the whole chat, with the ratios. `throughput` has the same lines answered by a batch
and by *threads* that ask for one line after the other, in turn.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import openai

CHAT: Final[Any] = "/v1/chat/completions"
ENDS: Final = ("completed", "failed", "expired", "cancelled")
WORDS: Final = ("river", "lamp", "winter", "paper", "orange", "cloud", "seven", "music", "garden", "stone", "coffee")
CLIENT_TOKENS: Final = 24
LINE_TOKENS: Final = 64
PAUSE_S: Final = 0.5
_POLL_S: Final = 0.1


@dataclass(slots=True)
class Felt:
    """Seconds that chats took."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("clients", "throughput"))
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--lines", type=int, default=120)
    parser.add_argument("--threads", type=int, default=16)
    args = parser.parse_args()
    client = openai.OpenAI(base_url=f"{args.url}/v1", api_key="none", timeout=600)
    if args.what == "clients":
        felt_beside(client, args)
    else:
        throughput(client, args)


def felt_beside(client: openai.OpenAI, args: argparse.Namespace) -> None:
    """Print what clients feel with and without a batch."""
    quiet, beside, done = Felt(), Felt(), 0
    chats(client, args, Felt(), 3.0)  # warms up
    for number in range(args.rounds):
        chats(client, args, quiet, args.seconds)
        batch = submit(client, args.model, 2000, number)
        wait(client, batch.id, ("in_progress",))
        before = counted(client, batch.id)
        chats(client, args, beside, args.seconds)
        done += counted(client, batch.id) - before
        client.batches.cancel(batch.id)
        wait(client, batch.id, ENDS)
    for name, of in (("first token", "first"), ("whole chat", "whole")):
        alone, together = sorted(getattr(quiet, of)), sorted(getattr(beside, of))
        line = [f"{name}: {len(alone)} and {len(together)} chats"]
        for label, at in (("median", 0.5), ("p95", 0.95)):
            a, b = quantile(alone, at), quantile(together, at)
            line.append(f"{label} {a:.3f} s alone, {b:.3f} s beside a batch, ratio {b / a:.2f}")
        print("; ".join(line))
    print(f"the batch answered {done / (args.rounds * args.seconds):.2f} lines a second meanwhile")


def throughput(client: openai.OpenAI, args: argparse.Namespace) -> None:
    """Print lines a second of a batch and by hand."""
    rates: dict[str, list[float]] = {"batch": [], "hand": []}
    for number in range(args.rounds + 1):
        began = time.monotonic()
        batch = submit(client, args.model, args.lines, 100 + number)
        wait(client, batch.id, ENDS)
        took = time.monotonic() - began
        bodies = [line_body(args.model, 200 + number, at) for at in range(args.lines)]
        began = time.monotonic()
        with ThreadPoolExecutor(args.threads) as pool:
            list(pool.map(lambda body: client.chat.completions.create(**body), bodies))
        by_hand = time.monotonic() - began
        if number:  # the first round warms up
            rates["batch"].append(args.lines / took)
            rates["hand"].append(args.lines / by_hand)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    ratio = statistics.median(a / b for a, b in zip(rates["batch"], rates["hand"], strict=True))
    print(f"{medians['batch']:.2f} lines a second by a batch, {medians['hand']:.2f} by hand, ratio {ratio:.2f}")


def chats(client: openai.OpenAI, args: argparse.Namespace, felt: Felt, seconds: float) -> None:
    """Chat for so long with *clients*, and add what they felt."""
    ends, lock = time.monotonic() + seconds, threading.Lock()

    def chat(seed: int) -> None:
        words = random.Random(f"{seed} {ends}")
        while time.monotonic() < ends:
            began, first = time.monotonic(), 0.0
            stream = client.chat.completions.create(
                model=args.model,
                messages=[{"role": "user", "content": " ".join(words.choices(WORDS, k=12))}],
                max_tokens=CLIENT_TOKENS,
                stream=True,
                extra_body={"ignore_eos": True},
            )
            for chunk in stream:
                if not first and chunk.choices and chunk.choices[0].delta.content:
                    first = time.monotonic() - began
            with lock:
                felt.first.append(first or time.monotonic() - began)
                felt.whole.append(time.monotonic() - began)
            time.sleep(PAUSE_S * words.uniform(0.5, 1.5))

    threads = [threading.Thread(target=chat, args=(number,)) for number in range(args.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def line_body(model: str, seed: int, number: int) -> dict[str, Any]:
    """Return the request of a line."""
    text = " ".join(random.Random(f"{seed} {number}").choices(WORDS, k=12))
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "max_tokens": LINE_TOKENS, "extra_body": {"ignore_eos": True}}


def submit(client: openai.OpenAI, model: str, lines: int, seed: int) -> Any:
    """Create a batch of so many lines."""
    content = ""
    for number in range(lines):
        body = line_body(model, seed, number)
        body |= body.pop("extra_body")
        content += json.dumps({"custom_id": f"c{number}", "method": "POST", "url": CHAT, "body": body}) + "\n"
    file = client.files.create(file=("lines.jsonl", content.encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


def wait(client: openai.OpenAI, batch_id: str, states: tuple[str, ...]) -> None:
    """Return when the batch is in one of these states; exit if it has ended in another one."""
    while (seen := client.batches.retrieve(batch_id)).status not in states:
        if seen.status in ENDS:
            sys.exit(f"{batch_id} is {seen.status}: {seen.errors}")
        time.sleep(_POLL_S)


def counted(client: openai.OpenAI, batch_id: str) -> int:
    """Return how many lines were answered."""
    counts = client.batches.retrieve(batch_id).request_counts
    return 0 if counts is None else counts.completed


def quantile(values: list[float], share: float) -> float:
    """Return the value at *share* of sorted *values*."""
    return values[min(len(values) - 1, int(share * len(values)))]


if __name__ == "__main__":
    main()
