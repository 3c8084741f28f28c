"""Read safetensors files: headers, and tensors straight from the file, so that only one of them is in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from registry.errors import AdapterRejected
from registry.publishing.adapter_files import cut_name

FLOATS: Final[Mapping[str, tuple[str, str]]] = {
    "F32": ("<f4", "float32"),
    "F16": ("<f2", "float16"),
    "BF16": ("<u2", "bfloat16"),  # numpy lacks bfloat16: its bits
}
"""Type in the file -> numpy type of its bits, and its name for writing."""
PICKLE_STARTS: Final = (b"\x80", b"PK\x03\x04")  # a bare pickle; a zip archive, as torch.save writes it
LONGEST_HEADER: Final = 16 * 1024 * 1024
"""Bytes of the header of an adapter's weights, which is parsed in memory: room for 100,000 tensors."""
LONGEST_NAME: Final = 500

Shapes = Mapping[str, tuple[int, ...]]
Bits = npt.NDArray[Any]


def read_shapes(paths: Iterable[Path], dtypes: Mapping[str, object] | None = None) -> Shapes:
    """Return the shapes of all tensors in *paths*; `AdapterRejected` names a tensor of another type than *dtypes*."""
    return dict(chain.from_iterable(_read_header(path, dtypes) for path in paths))


def read_tensors(path: Path) -> Iterator[tuple[str, str, Bits]]:
    """Yield name, type and bits of each tensor of `FLOATS` in a file that `read_shapes` passed; the bits stay there."""
    data = np.memmap(path, np.uint8, "r")
    begin = 8 + int.from_bytes(data[:8].tobytes(), "little")
    entries = json.loads(data[8:begin].tobytes())
    for name, entry in entries.items():
        if entry.get("dtype") not in FLOATS:  # metadata, or a type of quantised weights
            continue
        first, end = entry["data_offsets"]
        bits = data[begin + first : begin + end].view(FLOATS[entry["dtype"]][0])
        yield name, entry["dtype"], bits.reshape(entry["shape"])


def check_weights_file(path: Path) -> None:
    """Raise `AdapterRejected` unless *path* is a safetensors file of floating point numbers."""
    read_shapes([path], FLOATS)


def _read_header(path: Path, dtypes: Mapping[str, object] | None) -> Iterable[tuple[str, tuple[int, ...]]]:
    try:
        _check_header_length(path)
        with safe_open(path, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118  not a mapping
                part = tensors.get_slice(name)
                dtype = part.get_dtype()
                if len(name) > LONGEST_NAME:
                    raise AdapterRejected(f"{path.name}: {cut_name(name)} is longer than {LONGEST_NAME} characters")
                if dtypes is not None and dtype not in dtypes:
                    only = ", ".join(sorted(dtypes))
                    raise AdapterRejected(f"{path.name}: {cut_name(name)} is {dtype}; only {only} is served")
                yield name, tuple(part.get_shape())
    except (OSError, SafetensorError) as exc:
        found = "a pickle under another name" if _is_pickle(path) else f"not readable: {cut_name(str(exc))}"
        raise AdapterRejected(f"{path.name}: only safetensors weights are accepted; this is {found}") from exc


def _check_header_length(path: Path) -> None:
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    # Longer than the file is not a header at all, which the library says better.
    if LONGEST_HEADER < header_bytes <= path.stat().st_size:
        raise AdapterRejected(f"{path.name}: a header of {header_bytes} bytes; up to {LONGEST_HEADER} are read")


def _is_pickle(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(PICKLE_STARTS)
    except OSError:
        return False
