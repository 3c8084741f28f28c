"""Both hubs at one address of loopback, with models that tests make, cut, change, close and move."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from tests.loopback import LoopbackHandler, LoopbackServer

COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
LATER: Final = "89abcdef0123456789abcdef0123456789abcdef"
SMALL: Final = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer_config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "model.safetensors": b"w" * 20_000,
    "pytorch_model.bin": b"pickle",
}
"""The files of a model."""
LARGE: Final = 10_000
"""Files of so many bytes and more are in LFS, so that Hugging Face names their sha256."""


@dataclass(slots=True)
class HubModel:
    """A repository on both hubs."""

    commits: dict[str, dict[str, bytes]]
    """Commit -> its files."""
    branches: dict[str, str] = field(default_factory=lambda: {"main": COMMIT, "master": COMMIT})
    licence: str = "apache-2.0"
    called: str | None = None
    """The id that both hubs say it has; None for the one that it is asked by."""
    is_gated: bool = False
    cuts: list[int] = field(default_factory=list)
    """Lengths after which the next answers with the largest file are cut off; -503 answers with that status."""
    served: dict[str, bytes] = field(default_factory=dict)
    """What is served of a path in place of what is listed."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Sizes that are listed of paths in place of their own."""
    whole_ids: bool = True
    """Whether ModelScope names the whole commit besides its beginning."""
    sent: dict[str, int] = field(default_factory=dict)
    """Path -> bytes that were sent of it in all."""
    asked: list[str] = field(default_factory=list)
    """Range of each request for a file, empty for a whole one."""
    waits: threading.Event | None = None
    """Set before any file is served."""


class HubServer(LoopbackServer):
    """The server, with its models by their ids."""

    def __init__(self, models: Mapping[str, HubModel], handler: type[Hubs] | None = None) -> None:
        """*handler* answers more than the files of *models*."""
        hub, answers = self, handler or Hubs
        self.models = dict(models)
        self.tokens: set[str] = set()
        self.lock = threading.Lock()

        class Handler(answers):  # type: ignore[valid-type, misc]
            server_of = hub

        super().__init__(Handler)

    def environment(self, home: Path) -> dict[str, str]:
        """Return the variables by which both clients ask this server and store nothing outside *home*."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "MODELSCOPE_ENDPOINT": self.url,
            "MODELSCOPE_CACHE": str(home / "ms"),
            "MODELSCOPE_HOME": str(home / "ms"),
            "NO_PROXY": "127.0.0.1",
        }


class Hubs(LoopbackHandler):
    """The hubs' answers to requests for models and their files."""

    server_of: HubServer

    def do_GET(self) -> None:
        """Answer as the hubs do."""
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        words = unquote(parts.path).strip("/").split("/")
        if words[:2] == ["api", "models"] and len(words) == 2:
            self.reply(200, json.dumps([{"id": name} for name in self._found(query, "author")]).encode())
        elif words[:2] == ["api", "models"]:
            self._hugging_face("/".join(words[2:4]), words[5] if len(words) > 5 else "main")
        elif words[:3] == ["api", "v1", "models"]:
            self._modelscope("/".join(words[3:5]), words[5:], query)
        elif words[:3] == ["openapi", "v1", "models"]:
            found = self._found(query, "owner")
            listed = {"models": [{"id": name} for name in found], "total_count": len(found)}
            self.reply(200, json.dumps({"success": True, "data": listed}).encode())
        elif len(words) > 4 and words[2] == "resolve":
            self._file("/".join(words[:2]), words[3], "/".join(words[4:]))
        else:
            self._refuse(404, "RepoNotFound")

    do_HEAD = do_GET

    def _found(self, query: Mapping[str, str], owner: str) -> list[str]:
        names = [name for name in self.server_of.models if name.startswith(query.get(owner, ""))]
        return [name for name in names if query.get("search", "").lower() in name.lower()]

    def _hugging_face(self, name: str, revision: str) -> None:
        model = self.server_of.models.get(name)
        commit = _commit_of(model, revision)
        if model is None or commit is None:
            self._refuse(404, "RepoNotFound" if model is None else "RevisionNotFound")
            return
        siblings = [_sibling(path, content, model) for path, content in model.commits[commit].items()]
        facts = {
            "id": model.called or name,
            "sha": commit,
            "siblings": siblings,
            "gated": "auto" if model.is_gated else False,
            "cardData": {"license": model.licence},
            "tags": [f"license:{model.licence}"],
        }
        self.reply(200, json.dumps(facts).encode())

    def _modelscope(self, name: str, rest: list[str], query: Mapping[str, str]) -> None:
        model = self.server_of.models.get(name)
        revision = query.get("Revision", "master")
        commit = _commit_of(model, revision)
        if model is None or commit is None:
            body = {"Code": 10010205001, "Message": "not found", "Success": False}
            self.reply(404, json.dumps(body).encode())
        elif rest == ["repo", "files"]:
            entries = [_entry(path, content, commit) for path, content in model.commits[commit].items()]
            latest = {"Id": commit if model.whole_ids else "", "ShortId": commit[:8]}
            data = {"Files": entries, "LatestCommitter": latest}
            self.reply(200, json.dumps({"Code": 200, "Success": True, "Data": data}).encode())
        elif rest == ["repo"]:
            self._file(name, revision, query["FilePath"])
        else:
            owner, _, title = (model.called or name).partition("/")
            data = {"Path": owner, "Name": title, "License": model.licence}
            self.reply(200, json.dumps({"Code": 200, "Success": True, "Data": data}).encode())

    def _file(self, name: str, revision: str, path: str) -> None:
        model = self.server_of.models.get(name)
        commit = _commit_of(model, revision)
        if model is None or commit is None or path not in model.commits[commit]:
            self._refuse(404, "EntryNotFound")
            return
        token = (self.headers["authorization"] or "").removeprefix("Bearer ")
        if model.is_gated and token not in self.server_of.tokens:
            self._refuse(403 if token else 401, "GatedRepo")
            return
        if model.waits is not None:
            model.waits.wait(60)
        self._send(model, path, model.served.get(path, model.commits[commit][path]))

    def _send(self, model: HubModel, path: str, content: bytes) -> None:
        begin = int((self.headers["range"] or "bytes=0-").removeprefix("bytes=").split("-")[0])
        with self.server_of.lock:
            model.asked.append(self.headers["range"] or "")
            is_cut = bool(model.cuts) and len(content) == max(map(len, next(iter(model.commits.values())).values()))
            length = model.cuts.pop(0) if is_cut else len(content) - begin
        if length < 0:
            self.reply(-length)
            return
        self.send_response(206 if self.headers["range"] else 200)
        self.send_header("content-length", str(len(content) - begin))
        self.send_header("accept-ranges", "bytes")
        if self.headers["range"]:
            self.send_header("content-range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[begin : begin + length])
            with self.server_of.lock:
                model.sent[path] = model.sent.get(path, 0) + min(length, len(content) - begin)
        self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("content-length", "0")
        self.end_headers()


def _commit_of(model: HubModel | None, revision: str) -> str | None:
    if model is None:
        return None
    return revision if revision in model.commits else model.branches.get(revision)


def _sibling(path: str, content: bytes, model: HubModel) -> dict[str, object]:
    git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    found: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": git}
    if len(content) >= LARGE:
        sha256 = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"sha256": sha256, "size": model.sizes.get(path, len(content)), "pointerSize": 134}
    return found


def _entry(path: str, content: bytes, commit: str) -> dict[str, object]:
    sha256 = hashlib.sha256(content).hexdigest()
    return {"Path": path, "Name": path, "Type": "blob", "Size": len(content), "Sha256": sha256, "Revision": commit}
