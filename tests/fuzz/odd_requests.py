"""Odd requests for every endpoint: those of the OpenAPI description, and the hot paths with bodies of real clients."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final
from urllib.parse import quote

from gateway.routing.paths import HOT_PATHS
from tests.fuzz.odd_values import NUMBERS, PLACEHOLDERS, STRINGS, Shapes, broken, odd_text, odd_value, written

BOUNDARY: Final = "XfuzzX"
ADDRESSES: Final = (
    "http://127.0.0.1:1",
    "http://127.0.0.1:99999",
    "http://[::1",
    "http://127.0.0.1:1\udc80",
    "http://\0:1",
    "http://127.0.0.1:+1",
)
"""Addresses for an engine; nobody listens there, and no name is looked up."""
ROW: Final = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n'

_CALL: Final = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_TOOL: Final = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
_ASKED: Final = [{"role": "user", "content": "hi"}]
_BLOCKS: Final = [
    {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "42"}], "is_error": True},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
        ],
    },
]
_MESSAGE: Final[Mapping[str, Any]] = {
    "messages": _BLOCKS,
    "system": [{"type": "text", "text": "Be brief."}],
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
}
_RESPONSE: Final[Mapping[str, Any]] = {
    "input": [
        {"role": "developer", "content": "Be kind."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "hi"},
                {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "low"},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "42"}]},
    ],
    **{"instructions": "Be brief.", "max_output_tokens": 16, "metadata": {"a": "b"}, "temperature": 0.5, "top_p": 0.9},
    **{"tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}]},
    **{"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}},
    **{"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}, "store": True},
    **{"reasoning": {"effort": "low", "summary": "auto"}, "include": ["message.output_text.logprobs"]},
    **{"top_logprobs": 2, "parallel_tool_calls": False, "stream_options": {"include_obfuscation": False}},
    **{"truncation": "disabled", "background": False, "service_tier": "auto", "user": "ann", "prompt_cache_key": "k"},
}
HOT_BODIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "/v1/chat/completions": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "name": "ann", "content": [{"type": "text", "text": "hi"}]},
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
        ],
        **{"max_tokens": 8, "max_completion_tokens": 8, "temperature": 0.5, "top_p": 0.9, "n": 1, "stop": ["x"]},
        **{"stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 2, "presence_penalty": 0.1},
        **{"frequency_penalty": 0.1, "logit_bias": {"5": -100}, "seed": 7, "user": "ann", "safety_identifier": "a"},
        **{"prompt_cache_key": "k", "metadata": {"a": "b"}, "response_format": {"type": "text"}, "store": False},
        **{"tools": [_TOOL], "tool_choice": "auto"},
    },
    "/v1/completions": {
        **{"prompt": "Once", "max_tokens": 8, "n": 1, "best_of": 1, "echo": True, "logprobs": 2, "suffix": ""},
        **{"stop": "", "user": "ann", "seed": 1},
    },
    "/v1/responses": _RESPONSE,
    "/v1/responses/input_tokens": _RESPONSE,
    "/v1/messages": {
        **_MESSAGE,
        **{"max_tokens": 8, "temperature": 0.5, "top_p": 0.9, "top_k": 4, "stop_sequences": ["x"], "speed": "standard"},
        **{"metadata": {"user_id": "ann"}, "service_tier": "auto", "cache_control": {"type": "ephemeral"}},
        "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
    },
    "/v1/messages/count_tokens": _MESSAGE,
    "/v1/embeddings": {"input": ["a", "b"], "encoding_format": "float", "dimensions": 8},
    "/v1/rerank": {"query": "a", "documents": ["b"], "top_n": 1},
    "/v2/rerank": {"query": "a", "documents": ["b"], "top_n": 1},
    "/rerank": {"query": "a", "documents": ["b"], "top_n": 1},
    "/tokenize": {"prompt": "hello", "messages": _ASKED},
}
"""Bodies with every field that clients send to a hot path, but for the model and `stream`."""
MODELS: Final = ("support", "support", "support@1", "support@2", "tiny")
HEADERS: Final[Mapping[str, Sequence[str]]] = {
    "x-request-id": ("abc", "x" * 64, "x" * 65, "a b", "\xff", "../x", "{0}"),
    "x-session-id": ("s1", "\xff\xfe", "x" * 9000, ""),
    "x-lorry-side": ("canary", "stable", "both", "\xff"),
    "x-lorry-priority": ("high", "low", "urgent", "\xff"),
    "x-request-timeout": ("5", "1e999", "nan", "-1", "0", "1_0", "\xb2", "9" * 5000, ""),
    "x-lorry-actor": ("bob", "\xff\xfe", "x" * 3000, ""),
    "traceparent": ("00-" + "a" * 32 + "-" + "b" * 16 + "-01", "00-" + "0" * 32, "\xff", "zz"),
    "content-type": (
        "text/plain",
        "application/json; charset=utf-16",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "\xff",
        "application/json;" * 500,
        "",
    ),
    "content-encoding": ("gzip", "identity", "br", "x", ""),
    "accept": ("text/event-stream", "*/*;q=9", "\xff"),
    "accept-encoding": ("gzip", "\xff"),
    "idempotency-key": ("k", "x" * 5000, "\xff"),
    "if-none-match": ("*", "\xff"),
    "range": ("bytes=0-0", "bytes=5-1", "bytes=" + "9" * 5000 + "-", "bytes=-0", "bytes=a-b", "bytes=0-0," * 3000),
    "if-range": ("\xff", "Mon"),
    "origin": ("http://evil.example", "null", "\xff"),
    "cookie": ("a=b; " * 1000,),
    "x-forwarded-for": ("::1", "\xff"),
    "host": ("localhost", "evil.example", "127.0.0.1:99999", "[::1", "\xff", "a b"),
    "api-key": ("sk-lorry-no", "\xff"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OddRequest:
    """A request that is HTTP; its parts may hold placeholders of ids."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    in_chunks: bool = False

    def bytes(self, port: int) -> bytes:
        """Return the request as it is sent."""
        own = {name for name, _ in self.headers}
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [] if "host" in own else [f"host: 127.0.0.1:{port}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        body = self.body
        if self.in_chunks:
            lines.append("transfer-encoding: chunked")
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        elif body or self.method in ("POST", "PUT", "PATCH"):
            lines.append(f"content-length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


class OddRequests:
    """Makes the requests of one run; the same source of random numbers, the same request."""

    def __init__(self, described: Mapping[str, Any], credentials: Sequence[str], *, may_make_keys: bool) -> None:
        """*credentials* are API keys that are valid; without one all requests are the keyless gateway's."""
        self._shapes = Shapes(described)
        self._credentials = credentials
        self._endpoints = [
            (method, path, facts)
            for path, methods in described["paths"].items()
            for method, facts in methods.items()
            if may_make_keys or (method, path) != ("post", "/admin/keys")
        ]

    def make(self, rng: Random) -> OddRequest:
        """Return a request for some endpoint."""
        made = self._hot(rng) if rng.random() < 0.35 else self._described(rng)
        headers = dict(made.headers)
        for name in rng.sample(sorted(HEADERS), rng.choice((0, 0, 0, 1, 2))):
            headers[name] = rng.choice(HEADERS[name])
        headers |= self._credential(rng)
        method = made.method
        if rng.random() < 0.03:
            method = rng.choice(("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND"))
        return OddRequest(
            method=method,
            target=made.target,
            headers=tuple(headers.items()),
            body=made.body,
            in_chunks=rng.random() < 0.15,
        )

    def _credential(self, rng: Random) -> dict[str, str]:
        if not self._credentials or rng.random() < 0.04:
            return (
                {}
                if rng.random() < 0.7
                else {
                    "authorization": rng.choice(
                        ("Bearer", "Basic \xff", "Bearer " + "x" * 5000, "Bearer sk-lorry-\xff")
                    )
                }
            )
        key = self._credentials[0] if rng.random() < 0.9 else rng.choice(self._credentials)
        return {"authorization": f"Bearer {key}"} if rng.random() < 0.9 else {"x-api-key": key}

    def _hot(self, rng: Random) -> OddRequest:
        path = rng.choice(sorted(HOT_PATHS)).decode()
        if rng.random() < 0.4:
            path = "/v1/chat/completions"
        if HOT_PATHS[path.encode()].is_multipart:
            return self._form(path, rng, {"model": rng.choice(MODELS), "file": b"RIFF", "stream": "true"})
        fields = HOT_BODIES[path]
        needed = {"messages", "prompt", "input", "query"}
        kept = {name: value for name, value in fields.items() if name in needed or rng.random() < 0.3}
        kept["stream"] = rng.random() < 0.3
        return _json(
            "POST", path + ("" if rng.random() < 0.95 else _query_text(rng)), {"model": rng.choice(MODELS), **kept}, rng
        )

    def _described(self, rng: Random) -> OddRequest:
        method, path, facts = rng.choice(self._endpoints)
        target, query = path, []
        for parameter in facts.get("parameters", ()):
            if parameter["in"] == "path":
                target = target.replace("{" + parameter["name"] + "}", self._id(parameter, path, rng))
            elif parameter["in"] == "query" and rng.random() < 0.5:
                value = self._shapes.near(parameter["schema"], rng) if rng.random() < 0.5 else odd_value(rng)
                text = value if isinstance(value, str) else written(value)
                query.append(f"{parameter['name']}={_in_url(text, rng)}")
        if query:
            target += "?" + "&".join(query)
        if rng.random() < 0.03:
            target += _query_text(rng)
        if path.endswith("/revisions") and method == "post":
            return OddRequest(
                method="POST", target=target, body=odd_tar(rng), headers=(("content-type", "application/x-tar"),)
            )
        content = facts.get("requestBody", {}).get("content", {})
        if "multipart/form-data" in content:
            return self._form(target, rng, {"purpose": "fine-tune", "file": ROW * rng.choice((1, 12))})
        if "application/json" in content:
            value = self._shapes.near(content["application/json"]["schema"], rng)
            if path == "/admin/replicas" and isinstance(value, dict):
                value["url"] = rng.choice(ADDRESSES)
            return _json(method.upper(), target, value, rng)
        return OddRequest(method=method.upper(), target=target)

    def _id(self, parameter: Mapping[str, Any], path: str, rng: Random) -> str:
        if rng.random() < 0.4:
            return _in_url(rng.choice(STRINGS[:-1]), rng)
        if parameter["name"] == "number":
            return rng.choice(("1", "2", "99", "9" * 25, "1e3", "-1", "%C2%B2"))
        if "adapters" in path or "models" in path:
            return rng.choice(MODELS)
        return rng.choice(PLACEHOLDERS)

    def _form(self, target: str, rng: Random, fields: Mapping[str, str | bytes]) -> OddRequest:
        parts = []
        for name, value in fields.items():
            if rng.random() < 0.1:
                continue
            raw = value if isinstance(value, bytes) else value.encode()
            if rng.random() < 0.4:
                raw = rng.choice(
                    (
                        b"",
                        b"\xff",
                        b"\0",
                        raw[: len(raw) // 2],
                        written(broken(odd_value(rng), rng)).encode(),
                        *_odd_rows(rng),
                    )
                )
            file = (
                rng.choice(
                    (
                        '; filename="a.jsonl"',
                        '; filename="\xff"',
                        "; filename*=UTF-8''%ff",
                        '; filename="' + "x" * 3000 + '"',
                    )
                )
                if name == "file"
                else ""
            )
            shown = name if rng.random() < 0.97 else rng.choice(("", "\xff", "x" * 3000, "file[]"))
            extra = "x-odd: \xff\r\n" * rng.choice((0, 0, 0, 1, 200))
            head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{shown}"{file}\r\n{extra}\r\n'
            parts.append(head.encode("latin-1") + raw + b"\r\n")
        if rng.random() < 0.05:
            parts *= rng.choice((2, 300))
        body = b"".join(parts) + (f"--{BOUNDARY}--\r\n".encode() if rng.random() < 0.9 else b"")
        if rng.random() < 0.1:
            body = odd_text(body, rng)
        boundary = BOUNDARY if rng.random() < 0.95 else rng.choice(("", "\xff", "x" * 300, BOUNDARY[:-1]))
        kind = ("content-type", f"multipart/form-data; boundary={boundary}")
        return OddRequest(method="POST", target=target, body=body, headers=(kind,))


def _json(method: str, target: str, value: Any, rng: Random) -> OddRequest:
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        if isinstance(value, dict | list):
            value = broken(value, rng)
    body = written(value).encode()
    if rng.random() < 0.06:
        body = odd_text(body, rng)
    return OddRequest(method=method, target=target, body=body, headers=(("content-type", "application/json"),))


def _odd_rows(rng: Random) -> tuple[bytes, ...]:
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello", "weight": 1}]}
    odd = written(broken(row, rng)).encode()
    return (odd + b"\n", ROW * 10 + odd, odd_text(ROW, rng), odd_text(odd, rng), b"\n" * 3000, ROW[:-1] + b"\r\n" + ROW)


def _in_url(text: str, rng: Random) -> str:
    raw = text.encode("utf-8", "surrogatepass")[:3000]
    if text in PLACEHOLDERS:
        return text
    return rng.choice((quote(raw), quote(raw, safe=""), "".join(f"%{byte:02x}" for byte in raw[:300])))


def _query_text(rng: Random) -> str:
    return "?" + rng.choice(
        (
            "limit=" + rng.choice(NUMBERS[:-4]),
            "&&&==",
            "%",
            "%zz=%",
            "a=%ff&a=%00",
            "limit=1&limit=2",
            "x" * 9000,
            "a=1&" * 5000,
            "after[]=1",
            "\xff",
            "?" * 50,
        )
    )


def odd_tar(rng: Random) -> bytes:
    """Return a tar of an adapter's folder, or something near one."""
    made = io.BytesIO()
    form = rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT))
    with tarfile.open(fileobj=made, mode=rng.choice(("w", "w", "w:gz", "w:bz2", "w:xz")), format=form) as tar:
        for name in (
            "adapter_config.json",
            "adapter_model.safetensors",
            rng.choice(("README.md", "../x", "/etc/x", "a" * 90, "\ud800", "a/b/c", ".", "")),
        )[: rng.randrange(1, 4)]:
            _add(tar, name, rng)
    body = made.getvalue()
    return odd_text(body, rng) if rng.random() < 0.4 else body


def _add(tar: tarfile.TarFile, name: str, rng: Random) -> None:
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "rank_pattern": {},
        "alpha_pattern": {},
        "base_model_name_or_path": "tiny",
    }
    raw = rng.choice(
        (written(config).encode(), written(broken(config, rng)).encode(), odd_header(rng), b"", rng.randbytes(50))
    )
    member = tarfile.TarInfo(name)
    member.size = len(raw)
    if rng.random() < 0.3:
        member.type = rng.choice(
            (
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.DIRTYPE,
                tarfile.FIFOTYPE,
                tarfile.CHRTYPE,
                tarfile.GNUTYPE_SPARSE,
                b"?",
            )
        )
        member.linkname = rng.choice(("adapter_config.json", "/etc/passwd", "../..", ""))
    member.mode = rng.choice((0o644, 0, 0o7777))
    member.mtime = rng.choice((0, 2**33, -1 if tar.format == tarfile.PAX_FORMAT else 1))
    if tar.format == tarfile.PAX_FORMAT and rng.random() < 0.3:
        member.pax_headers = {
            rng.choice(("size", "mtime", "path", "GNU.sparse.size", "GNU.sparse.map", "GNU.sparse.major")): rng.choice(
                ("1e999", "-1", "x", "9" * 30, "1,2,3")
            )
        }
    try:
        tar.addfile(member, io.BytesIO(raw))
    except (ValueError, UnicodeEncodeError):
        return


def odd_header(rng: Random) -> bytes:
    """Return a safetensors file, or nearly."""
    tensor = {"dtype": "F32", "shape": [4, 8], "data_offsets": [0, 128]}
    table = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": tensor, "__metadata__": {"format": "pt"}}
    text = written(broken(table, rng) if rng.random() < 0.8 else table).encode()
    size = rng.choice((len(text), len(text), len(text), 0, 2**63, 2**64 - 1, len(text) + 1))
    return size.to_bytes(8, "little") + text + b"\0" * 128
