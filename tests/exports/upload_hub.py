"""Both hubs at one address of loopback, into which their clients upload."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hubs.hub_server import HubModel, Hubs, HubServer

TOKEN: Final = "token-of-a-person"
LFS_FROM: Final = 4_000
"""Files of so many bytes go into large file storage of Hugging Face."""


class UploadHub(HubServer):
    """The server; `private` has what was asked of each new repository, `blobs` the large files by sha256."""

    def __init__(self, models: Mapping[str, HubModel] | None = None) -> None:
        self.private: dict[str, bool] = {}
        self.blobs: dict[str, bytes] = {}
        self.loses_a_file = False
        super().__init__(models or {}, _Uploads)

    def commit(self, name: str, branch: str, files: Mapping[str, bytes]) -> str:
        """Add a commit with *files* to the branch and return its id."""
        model = self.models[name]
        before = model.commits.get(model.branches.get(branch, ""), {})
        kept = dict(list(files.items())[1:]) if self.loses_a_file else dict(files)
        commit = hashlib.sha1(repr((branch, sorted(files))).encode(), usedforsecurity=False).hexdigest()
        model.commits[commit] = {**before, **kept}
        model.branches[branch] = commit
        return commit


class _Uploads(Hubs):
    server_of: UploadHub

    def do_GET(self) -> None:
        """Answer what uploads ask besides what downloads do."""
        words = unquote(urlsplit(self.path).path).strip("/").split("/")
        name = "/".join(words[-2:])
        if words[:2] == ["api", "models"] and len(words) == 6 and words[4] == "tree":
            self._tree("/".join(words[2:4]), words[5])
        elif words[:2] == ["api", "models"] and len(words) == 4 and name in self.server_of.private:
            self._send_json({"id": name, "private": self.server_of.private[name]})
        elif words[:3] == ["openapi", "v1", "models"] and len(words) == 5:
            self._send_json({"success": True, "data": {"id": name, "visibility": self._visibility(name)}})
        elif words[:3] == ["api", "v1", "models"] and words[-1] == "files" and not self._has("/".join(words[3:5])):
            self._send_json({"Code": 200, "Success": True, "Data": {"Files": []}})
        else:
            super().do_GET()

    def do_POST(self) -> None:
        """Take an upload's steps, from whoever has the token."""
        body = self.read_body()
        if self.headers["authorization"] != f"Bearer {TOKEN}" and TOKEN not in (self.headers["cookie"] or ""):
            self._send_json({"error": "Invalid username or password."}, 401)
            return
        words = unquote(urlsplit(self.path).path).strip("/").split("/")
        if words == ["api", "validate-yaml"]:
            self._send_json({"errors": [], "warnings": []})
        elif words == ["api", "repos", "create"]:
            asked = json.loads(body)
            self._create(f"{asked['organization']}/{asked['name']}", asked["visibility"] == "private")
        elif words == ["api", "v1", "models"]:
            asked = json.loads(body)
            self._create(f"{asked['Path']}/{asked['Name']}", asked["Visibility"] != 5)
        elif words[-3:] == ["lfs", "objects", "batch"]:
            self._batch(json.loads(body)["objects"], is_modelscope=words[0] == "api")
        elif words[:3] == ["api", "v1", "repos"]:
            self._commit_modelscope("/".join(words[4:6]), words[7], json.loads(body))
        else:
            self._hugging_face_step("/".join(words[2:4]), words[4], words[5], body)

    def do_PUT(self) -> None:
        """Take a large file."""
        content = self.read_body()
        self.server_of.blobs[hashlib.sha256(content).hexdigest()] = content
        self.reply(200, b"{}")

    def _create(self, name: str, is_private: bool) -> None:
        if name in self.server_of.models:
            code = {"error": "exists", "url": name, "Code": 10010101002, "Message": f"{name} already exists"}
            self._send_json(code, 409)
            return
        self.server_of.models[name] = HubModel(commits={}, branches={})
        self.server_of.private[name] = is_private
        self._send_json({"url": f"{self.server_of.url}/{name}", "Code": 200, "Data": {"Name": name}, "name": name})

    def _batch(self, objects: list[dict[str, Any]], *, is_modelscope: bool) -> None:
        answers = [
            {**each, "actions": {"upload": {"href": f"{self.server_of.url}/put/{each['oid']}"}}}
            for each in objects
            if each["oid"] not in self.server_of.blobs
        ]
        self._send_json({"Code": 200, "Data": {"objects": answers}} if is_modelscope else {"objects": answers})

    def _hugging_face_step(self, name: str, step: str, branch: str, body: bytes) -> None:
        if step == "branch":
            self._send_json({})
        elif step == "preupload":
            files = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] >= LFS_FROM else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in files
            ]
            self._send_json({"files": modes})
        else:
            lines = [json.loads(line) for line in body.splitlines()]
            files = {}
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.server_of.blobs[value["oid"]]
            commit = self.server_of.commit(name, branch, files)
            url = f"{self.server_of.url}/{name}/commit/{commit}"
            self._send_json({"success": True, "commitOid": commit, "commitUrl": url})

    def _commit_modelscope(self, name: str, branch: str, asked: Mapping[str, Any]) -> None:
        files = {}
        for action in asked["actions"]:
            is_large = action["type"] == "lfs"
            content = self.server_of.blobs[action["sha256"]] if is_large else base64.b64decode(action["content"])
            files[action["path"]] = content
        commit = self.server_of.commit(name, branch, files)
        self._send_json({"Code": 200, "Success": True, "Data": {"Id": commit}})

    def _tree(self, name: str, revision: str) -> None:
        tree = []
        for path, content in self.server_of.models[name].commits[revision].items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": "a" * 40}
            if len(content) >= LFS_FROM:
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
            tree.append(entry)
        self._send_json(tree)

    def _has(self, name: str) -> bool:
        query = parse_qs(urlsplit(self.path).query)
        model = self.server_of.models.get(name)
        return model is not None and query.get("Revision", ["master"])[0] in model.branches

    def _visibility(self, name: str) -> str:
        return "private" if self.server_of.private.get(name, False) else "public"

    def _send_json(self, body: Any, status: int = 200) -> None:
        self.reply(status, json.dumps(body).encode())
