"""Measure how long clients wait for their first token while a job trains on the same machine, and while none does.

    python bench/training/serving_beside.py [--url http://127.0.0.1:8080] [--model NAME] [--rounds 4] [--seconds 20]

A Lorry must run at the URL, without other work. Windows without and with a job alternate, so that what else the machine
does falls on both alike. In each window two clients ask one short chat after the other and read it as a stream. The job
is a supervised one on `examples/support.jsonl` with batch 4; a window with it begins at its first step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from pathlib import Path
from typing import Any, Final

import httpx2

ROWS: Final = Path(__file__).parents[2] / "examples" / "support.jsonl"
CLIENTS: Final = 2
LONG: Final = {"n_epochs": 50, "batch_size": 4}
ENDED: Final = {"succeeded", "failed", "cancelled"}


def main() -> None:
    """Print median and 95th percentile of both, in milliseconds, and the ratio of the latter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    asked = parser.parse_args()
    waits: dict[str, list[float]] = {"alone": [], "beside": []}
    with httpx2.Client(base_url=asked.url, timeout=120.0) as client:
        _window(asked.url, asked.model, 3.0)
        for _ in range(asked.rounds):
            waits["alone"] += _window(asked.url, asked.model, asked.seconds)
            job = _train(client, asked.model)
            waits["beside"] += _window(asked.url, asked.model, asked.seconds)
            _cancel(client, job)
    found = {name: {"requests": len(each)} | _percentiles(each) for name, each in waits.items()}
    ratio = found["beside"]["p95_ms"] / found["alone"]["p95_ms"]
    print(json.dumps(found | {"p95_ratio": round(ratio, 2)}))


def _percentiles(waits: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(waits, n=20)
    return {"p50_ms": round(1000 * statistics.median(waits), 1), "p95_ms": round(1000 * cuts[-1], 1)}


def _window(url: str, model: str, seconds: float) -> list[float]:
    """Return the seconds to the first token of every chat that began within *seconds*."""
    until, found = time.monotonic() + seconds, list[float]()

    def ask() -> None:
        with httpx2.Client(base_url=url, timeout=120.0) as client:
            number = 0
            while time.monotonic() < until:
                number += 1
                found.append(_first_token_s(client, model, number))

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _first_token_s(client: httpx2.Client, model: str, number: int) -> float:
    said = f"Number {number}: my order has not arrived, and I would like to know what I can do about it now."
    body = {"model": model, "stream": True, "max_tokens": 8, "messages": [{"role": "user", "content": said}]}
    began, first = time.monotonic(), 0.0
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if not first and '"content":"' in line.replace(" ", "") and '"content":""' not in line.replace(" ", ""):
                first = time.monotonic()
    return first - began


def _train(client: httpx2.Client, model: str) -> str:
    """Start a job and return its id once it has done a step."""
    with ROWS.open("rb") as lines:
        sent = client.post("/v1/files", files={"file": lines}, data={"purpose": "fine-tune"})
    method = {"type": "supervised", "supervised": {"hyperparameters": LONG}}
    request = {"model": model, "training_file": sent.raise_for_status().json()["id"], "method": method}
    job = client.post("/v1/fine_tuning/jobs", json=request).raise_for_status().json()["id"]
    while not any(event["type"] == "metrics" for event in _events(client, str(job))):
        time.sleep(0.5)
    return str(job)


def _events(client: httpx2.Client, job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/v1/fine_tuning/jobs/{job}/events").raise_for_status().json()["data"]
    return found


def _cancel(client: httpx2.Client, job: str) -> None:
    client.post(f"/v1/fine_tuning/jobs/{job}/cancel").raise_for_status()
    while client.get(f"/v1/fine_tuning/jobs/{job}").raise_for_status().json()["status"] not in ENDED:
        time.sleep(0.2)


if __name__ == "__main__":
    main()
