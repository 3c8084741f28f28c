"""The places that `lorry export --to` names, and how a model is written there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import typer

from gateway.cli.errors import CommandFailed
from registry.wording.suggestions import meant_or_known

if TYPE_CHECKING:
    from exports.bundles import Exported
    from exports.gguf.model_file import GgufType

HUBS: Final = ("hf", "modelscope")
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_USUAL: Final = "f16"
_TYPES: Final = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")


class Form(StrEnum):
    """The form that is written."""

    FOLDER = "folder"
    GGUF = "gguf"
    OLLAMA = "ollama"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A place to export to."""

    text: str
    """As it was typed."""
    form: Form
    path: Path | None
    """The file or folder to write; None for a hub."""
    hub: str | None
    """The hub of an upload, a member of `HUBS`."""
    repository: str | None
    kind: str | None
    """Type of GGUF."""
    revision: str | None
    public: bool

    @property
    def title(self) -> str | None:
        """Name of the model on its card, where the target has a better one than the model itself."""
        return self.repository.partition("/")[2] if self.repository else None

    @property
    def place(self) -> Path | None:
        """The folder that has room for what is written; None for that of temporary files."""
        return None if self.path is None else self.path.absolute().parent

    def check(self) -> None:
        """Raise `CommandFailed` if nothing can be written there, before anything is fetched."""
        from exports.errors import ExportError
        from exports.folder import check_new_file, check_target
        from exports.uploads.uploading import check_hub

        try:
            if self.hub is not None:
                check_hub(self.hub)
            elif self.path is not None:
                (check_new_file if self.form is Form.GGUF else check_target)(self.path)
        except ExportError as exc:
            raise CommandFailed(str(exc)) from exc

    def write(self, exported: Exported, scratch: Path) -> dict[str, Any]:
        """Write the model, and return what is to be shown of it. Raises `ExportError`."""
        if self.hub is not None:
            return self._upload(exported, scratch)
        assert self.path is not None  # noqa: S101 - what is no hub has a path
        return {Form.FOLDER: self._folder, Form.GGUF: self._gguf, Form.OLLAMA: self._ollama}[self.form](
            exported, self.path
        )

    def _folder(self, exported: Exported, path: Path) -> dict[str, Any]:
        from exports.bundles import write_folder
        from exports.folder import new_folder

        with new_folder(path) as staging:
            remarks = write_folder(exported, staging)
        return {"folder": str(path), "remarks": remarks}

    def _gguf(self, exported: Exported, path: Path) -> dict[str, Any]:
        from exports.bundles import write_gguf_file
        from exports.folder import new_file

        with new_file(path) as staging:
            remarks = write_gguf_file(exported, staging, self._type())
        return {"file": str(path), "bytes": path.stat().st_size, "remarks": remarks}

    def _ollama(self, exported: Exported, path: Path) -> dict[str, Any]:
        from exports.bundles import write_ollama
        from exports.folder import new_folder

        with new_folder(path) as staging:
            remarks = write_ollama(exported, staging, self._type())
        name = re.sub(r"[^a-z0-9._-]+", "-", exported.facts.title.lower())
        return {"folder": str(path), "next": f"ollama create {name} -f {path}/Modelfile", "remarks": remarks}

    def _upload(self, exported: Exported, scratch: Path) -> dict[str, Any]:
        from exports.bundles import write_folder
        from exports.uploads.uploading import upload

        folder = scratch / "upload"
        folder.mkdir()
        remarks = write_folder(exported, folder)
        done = upload(str(self.hub), str(self.repository), folder, revision=self.revision, is_public=self.public)
        return {"url": done.url, "revision": done.revision, "commit": done.commit, "remarks": remarks}

    def _type(self) -> GgufType:
        from exports.gguf.model_file import GgufType

        return next(kind for kind in get_args(GgufType) if kind == self.kind)


def parse_target(text: str, model: str, kind: str | None, *, revision: str | None, public: bool) -> Target:
    """Return the target that *text* names for *model*; exit code 2 with the fault."""
    word, colon, rest = text.partition(":")
    hub = word if word in HUBS and colon else None
    form = Form(word) if word in (Form.GGUF, Form.OLLAMA) else Form.FOLDER
    if hub is not None and _REPOSITORY.fullmatch(rest) is None:
        raise typer.BadParameter(f"--to {text!r}: write {hub}:ORGANISATION/NAME")
    if hub is None and colon and word not in (Form.GGUF, Form.OLLAMA) and "/" not in word:
        raise typer.BadParameter(
            f"--to {text!r}: {word!r} is not a place to export to"
            f"{meant_or_known(word, (*HUBS, Form.GGUF, Form.OLLAMA))}; a folder of this name is ./{text}"
        )
    if kind is not None and form is Form.FOLDER:
        raise typer.BadParameter(f"--type is of --to gguf and --to ollama; {text!r} keeps the model's own types")
    if kind is not None and kind not in _TYPES:
        raise typer.BadParameter(f"--type {kind!r}: one of {', '.join(_TYPES)}")
    if hub is None and (revision is not None or public):
        raise typer.BadParameter("--revision and --public are of uploads to a hub")
    return Target(
        text=text,
        form=form,
        path=None if hub else _path(form, rest if form is not Form.FOLDER else text, model, kind or _USUAL),
        hub=hub,
        repository=rest if hub else None,
        kind=None if form is Form.FOLDER else kind or _USUAL,
        revision=revision,
        public=public,
    )


def _path(form: Form, given: str, model: str, kind: str) -> Path:
    if given:
        return Path(given).expanduser()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", model)
    return Path(f"{plain}-{kind}.gguf" if form is Form.GGUF else f"{plain}-ollama")
