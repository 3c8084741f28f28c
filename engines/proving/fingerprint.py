"""Replay an adapter's fingerprint through the server that loaded it; an adapter takes no traffic before it passed.

The prompts go to `/v1/chat/completions`, as callers' prompts do, so that the server's own template, tokenizer, adapter
and base are what is compared. All kinds of engine answer the fields used here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx2
from pydantic import ValidationError

from engines.address import authorization_of, shown_address
from engines.drivers.openai_server import reason_of
from engines.errors import EngineError, EngineUnreachable, FingerprintMissing
from engines.proving.proof import AnsweredToken, ProbeAnswer, Proof, StoredFingerprint, StoredProbe, judge, tolerance_of

__all__ = ["FINGERPRINT", "Proof", "prove", "read_fingerprint", "tolerance_of"]

FINGERPRINT: Final = "fingerprint.json"

_TOP: Final = 20
"""Number of likeliest tokens asked for beside the generated one; LMDeploy gives no logprobs without any."""
_AT_ONCE: Final = 4
"""Probes that are sent to a server at a time."""
_REQUEST_S: Final = 60.0
_BUSY_S: Final = 30.0
"""Seconds for which a server may refuse because it has too much to do."""
_BUSY_PAUSE_S: Final = 0.25
# 403 is vLLM's answer without `--enable-scale-out`; the others come from servers that have no such route.
_NOT_OFFERED: Final = (403, 404, 405, 501)

Read = TypeVar("Read")


async def prove(url: str, fields: Mapping[str, str], folder: Path, tolerance: float) -> Proof:
    """Find out whether the server at *url* computes the adapter in *folder* as its trainer did.

    *fields* are the fields of a request's body that select the adapter at that server, *tolerance* is what
    `tolerance_of` returns. Raises `EngineUnreachable` and `EngineError` when the server cannot be asked,
    `FingerprintMissing` when the folder has nothing to ask for.
    """
    fingerprint = await asyncio.to_thread(read_fingerprint, folder)
    places = asyncio.Semaphore(_AT_ONCE)
    plain, headers = shown_address(url), authorization_of(url)
    async with httpx2.AsyncClient(base_url=plain, headers=headers, timeout=_REQUEST_S, trust_env=False) as http:
        renders = await _renders(http, fields, fingerprint.probes[0])

        async def ask(probe: StoredProbe) -> ProbeAnswer:
            async with places:
                # With a picture the answer has every number of its pixels.
                return await _ask(http, fields, probe, renders=renders and not probe.has_pictures)

        try:
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(ask(probe)) for probe in fingerprint.probes]
        # Callers treat `EngineUnreachable` differently from other errors, and a group would hide which of them it was.
        except ExceptionGroup as failed:
            raise _first(failed) from failed
    return judge(fingerprint, [task.result() for task in asked], tolerance)


def read_fingerprint(folder: Path) -> StoredFingerprint:
    """Read the fingerprint in *folder*; `FingerprintMissing`."""
    try:
        return StoredFingerprint.model_validate_json((folder / FINGERPRINT).read_bytes())
    except OSError as exc:
        raise FingerprintMissing(f"{folder.name} has no {FINGERPRINT}: it was not published by this Lorry") from exc
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "its beginning"
        raise FingerprintMissing(
            f"{FINGERPRINT} of {folder.name} is not as this Lorry writes it, at {where}: publish the folder again"
        ) from exc


async def _renders(http: httpx2.AsyncClient, fields: Mapping[str, str], probe: StoredProbe) -> bool:
    """Whether the server shows the tokens of a prompt, as vLLM does."""
    answer = await _post(http, "/v1/chat/completions/render", _body(fields, probe))
    return answer.status_code not in _NOT_OFFERED


async def _ask(
    http: httpx2.AsyncClient, fields: Mapping[str, str], probe: StoredProbe, *, renders: bool
) -> ProbeAnswer:
    body = _body(fields, probe)
    ids = None
    if renders:
        rendered = _checked(await _post(http, "/v1/chat/completions/render", body))
        ids = _read(rendered, lambda found: [int(token) for token in found["token_ids"]])
    answered = _checked(await _post(http, "/v1/chat/completions", body))
    return ProbeAnswer(
        prompt_tokens=_read(answered, lambda found: int(found["usage"]["prompt_tokens"])),
        prompt_ids=ids,
        tokens=_read(answered, lambda found: [_token(one) for one in found["choices"][0]["logprobs"]["content"]]),
    )


def _body(fields: Mapping[str, str], probe: StoredProbe) -> dict[str, Any]:
    # No more tokens than were recorded: further ones have nothing to be compared with.
    wanted = {"temperature": 0, "max_tokens": len(probe.tokens), "logprobs": True, "top_logprobs": _TOP}
    return {**fields, "messages": probe.messages, **wanted}


def _token(entry: Mapping[str, Any]) -> AnsweredToken:
    # Several tokens may share one text (bytes of a character): reversed, the likeliest is entered last and stays.
    others = {str(other["token"]): float(other["logprob"]) for other in reversed(entry["top_logprobs"] or [])}
    text = str(entry["token"])
    return AnsweredToken(text=text, logprobs=others | {text: float(entry["logprob"])})


async def _post(http: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> httpx2.Response:
    """Return the answer, whatever its status; the request is repeated while the server has too much to do."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            answer = await http.post(path, json=body)
        except httpx2.HTTPError as exc:
            raise EngineUnreachable(f"POST {path}: {type(exc).__name__} {exc}") from exc
        busy = answer.status_code == httpx2.codes.TOO_MANY_REQUESTS
        if busy and time.monotonic() < deadline:
            await asyncio.sleep(_BUSY_PAUSE_S)
            continue
        failed = answer.status_code >= httpx2.codes.INTERNAL_SERVER_ERROR and answer.status_code not in _NOT_OFFERED
        if busy or failed:
            raise EngineUnreachable(f"POST {path} answered {answer.status_code}: {reason_of(answer)}")
        return answer


def _checked(answer: httpx2.Response) -> httpx2.Response:
    if answer.status_code != httpx2.codes.OK:
        path = answer.request.url.path
        raise EngineError(f"a probe was refused: POST {path} answered {answer.status_code}: {reason_of(answer)}")
    return answer


def _read(answer: httpx2.Response, pick: Callable[[Any], Read]) -> Read:
    try:
        return pick(answer.json())
    except (KeyError, IndexError, TypeError, ValueError) as exc:
        path = answer.request.url.path
        raise EngineError(f"POST {path} gave no logprobs as OpenAI does: {type(exc).__name__} {exc}") from exc


def _first(failed: ExceptionGroup[Exception]) -> Exception:
    first = failed.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first
