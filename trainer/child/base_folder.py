"""The folder of a base model and the inputs of a job, checked against what the job names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.artifacts import folder_digest, is_intact
from registry.contracts.job_spec import JobSpec
from trainer.errors import JobFailed
from trainer.order import ChildOrder

Signature = tuple[tuple[str, int, int, int], ...]


class BaseFolder:
    """The folder of a base model, which is hashed again only after something in it changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hashed: tuple[Signature, str] | None = None

    def signature(self) -> Signature:
        """Return what changes of the folder's files when somebody writes to one: a hint, as it is cheap to forge."""
        files = [(path, path.stat()) for path in sorted(self._path.rglob("*")) if path.is_file()]
        return tuple((str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in files)

    @contextmanager
    def unchanged(self, order: ChildOrder[JobSpec]) -> Iterator[None]:
        """Raise `JobFailed` unless base model and inputs are as *order* names them, before the block and after it."""
        self._check(order)
        yield
        # Weights are mapped and rows may be read twice, so a change on the way may be in the result.
        self._check(order)
        for field, path in order.inputs.items():
            if not is_intact(path):
                raise JobFailed("file_not_readable", f"the bytes of {field} changed while the job was running", field)

    def _check(self, order: ChildOrder[JobSpec]) -> None:
        signature = self.signature()
        if self._hashed is None or self._hashed[0] != signature:
            self._hashed = (signature, folder_digest(self._path))
        found = self._hashed[1]
        if found != order.spec.base_digest:
            message = f"the folder of base model {order.spec.base} has changed: its digest is {found[:12]}, "
            raise JobFailed("base_changed", message + f"the job asks for {order.spec.base_digest[:12]}", "model")
