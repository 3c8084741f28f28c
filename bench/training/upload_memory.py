"""Memory of a process that takes a large upload: `python bench/training/upload_memory.py BASE_FOLDER FOLDER`.

A training file of one line of 128 MB is checked, and an adapter of some 300 MB for the base model in BASE_FOLDER is
normalised, each in a process of its own that writes to FOLDER. The figures are megabytes above those before: the peak
of the process's own memory (`RssAnon`), its peak with the pages of mapped files, which the system can take back at any
time, and what is left afterwards.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save_file

from registry.contracts.uploads.training_upload import check_training_upload
from registry.errors import TrainingFileInvalid
from registry.publishing.checks import base_modules, linear_modules
from registry.publishing.normalize import normalize_adapter

MB: Final = 1 << 20
LINE_BYTES: Final = 128 * MB
RANK: Final = 256
TARGETS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def memory_of(field: str) -> int:
    """Return a field of this process's status in megabytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) // 1024


def measured(work: Callable[[], Any], send: Any) -> None:
    """Do *work* and send what it took."""
    before, peaks, done = (memory_of("RssAnon"), memory_of("VmRSS")), [0, 0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            for at, field in enumerate(("RssAnon", "VmRSS")):
                peaks[at] = max(peaks[at], memory_of(field))

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    send.send((peaks[0] - before[0], peaks[1] - before[1], memory_of("VmRSS") - before[1]))


def check_line(folder: Path) -> None:
    """Check a file of one long line."""
    with (folder / "line.jsonl").open("rb") as file, suppress(TrainingFileInvalid):
        check_training_upload(file)


def normalise(base: Path, folder: Path) -> None:
    """Normalise the adapter."""
    shutil.rmtree(folder / "normal", ignore_errors=True)
    normalize_adapter(folder / "adapter", folder / "normal", base.name, base, 512 * MB)


def make_inputs(base: Path, folder: Path) -> None:
    """Write the file of one line, and an adapter of high rank."""
    chat = {"messages": [{"role": "user", "content": "x" * LINE_BYTES}, {"role": "assistant", "content": "y"}]}
    (folder / "line.jsonl").write_text(json.dumps(chat) + "\n")
    adapter = folder / "adapter"
    adapter.mkdir(exist_ok=True)
    random, tensors = np.random.default_rng(0), {}
    for name, (wide, deep) in linear_modules(base_modules(base)).items():
        for side, shape in (("A", (RANK - 1, deep)), ("B", (wide, RANK - 1))):
            tensors[f"base_model.model.{name}.lora_{side}.weight"] = random.standard_normal(shape, np.float32)
    save_file(tensors, adapter / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK - 1, "lora_alpha": RANK - 1, "target_modules": list(TARGETS)}
    (adapter / "adapter_config.json").write_text(json.dumps(config))


def main() -> None:
    """Measure both and print a table."""
    base, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    make_inputs(base, folder)
    size = (folder / "adapter" / "adapter_model.safetensors").stat().st_size // MB
    print(f"{'':44}{'own peak':>10}{'with files':>12}{'after':>8}")
    for what, work, arguments in (
        (f"a training file of one line of {LINE_BYTES // MB} MB", check_line, (folder,)),
        (f"an adapter of {size} MB", normalise, (base, folder)),
    ):
        receive, send = get_context("fork").Pipe(duplex=False)
        child = get_context("fork").Process(target=lambda w=work, a=arguments, s=send: measured(lambda: w(*a), s))
        child.start()
        print(f"{what:44}{''.join(f'{value:>10}' for value in receive.recv())}", flush=True)
        child.join()


if __name__ == "__main__":
    main()
