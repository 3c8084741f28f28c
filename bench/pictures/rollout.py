"""Draw a rollout in progress: a real one, on a tiny base model with random weights, in a home that is removed.

    python -m bench.pictures.rollout --out docs/rollouts/terminal.svg

Starts `lorry up`, trains two revisions, rolls the second out at half of the conversations before a judge, sends chats,
and draws `lorry rollout status support` while the judge still waits for more of them. Takes some two minutes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

import httpx2

from bench.comparison.native import free_ports
from bench.pictures.terminal import picture
from tests.trainer.tiny_base import save_base, write_chats
from tests.up_process import Up

CONFIG: Final = '[gateway]\nreplicas = 1\n\n[engines]\nbase = "{base}"\n\n[engines.engine]\nmax_context = 512\n'
WANTED: Final = 60
"""Requests of the canary after which the picture is drawn."""


def main() -> None:
    """Run a rollout and write its picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--columns", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lorry-picture-") as folder:
        base, home = Path(folder) / "tiny", Path(folder) / "home"
        home.mkdir()
        save_base(base)
        (port,) = free_ports(1)
        up = Up(home, port, CONFIG.format(base=base))
        try:
            roll_out(up, write_chats(Path(folder) / "chats.jsonl"))
            variables = {"LORRY_URL": up.url, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            asked.out.write_text(picture(("lorry", "rollout", "status", "support"), asked.columns, variables))
        finally:
            up.stop(signal.SIGTERM)


def roll_out(up: Up, chats: Path) -> None:
    """Publish two revisions, start a judged rollout of the second, and chat until the canary has answered enough."""
    for _ in range(2):
        words = ("--data", str(chats), "--name", "support", "--set", "n_epochs=2", "--follow")
        up.lorry("train", "sft", *words)
    up.lorry("rollout", "start", "support@2", "--steps", "50,100")
    client = up.client()
    for number in itertools.count():
        client.chat.completions.create(
            model="support",
            user=f"customer-{number}",
            messages=[{"role": "user", "content": f"Where is parcel {number}?"}],
            max_tokens=8,
            stream=True,
        ).response.read()
        if number % 20 == 0 and judged_requests(up) >= WANTED:
            return


def judged_requests(up: Up) -> int:
    """Return how many requests of the canary the judge has seen at this step."""
    (rollout,) = httpx2.get(f"{up.url}/admin/rollouts", trust_env=False).json()["data"]
    entries = (rollout["evidence"] or {"evidence": []})["evidence"]
    return max((int(entry["canary_samples"]) for entry in entries), default=0)


if __name__ == "__main__":
    main()
