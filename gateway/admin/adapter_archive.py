"""Take an adapter's two files out of a tar that anybody may have made.

Only regular members with the two names are copied, to names of our own; everything else is skipped. The archive is read
once from its beginning, in pieces. `tarfile` parses the headers of 512 bytes alone: its reading of whole archives keeps
headers of any length in memory and expands sparse files.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Protocol

from gateway.errors import BodyTooLarge, InvalidRequest
from registry.publishing.adapter_files import NEEDED, cut_name, left_out

MOST_MEMBERS: Final = 10_000
LONGEST_HEADER: Final = 64 * 1024
"""Bytes of an extended header, which holds what does not fit into 512 bytes: a long name, for example."""
ALL_HEADERS: Final = 8 * 1024 * 1024
"""Bytes of all extended headers: reading their records takes about 1 us for each 5 bytes."""
CHUNK_BYTES: Final = 64 * 1024

_COMPRESSED: Final[Mapping[bytes, str]] = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
"""First bytes of a file -> its format. Only gzip is read besides a plain tar: weights hardly get smaller."""
_GZIP: Final = b"\x1f\x8b"
_NO_DATA: Final = (
    tarfile.DIRTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
)
_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LINKS: Final = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_PAX: Final = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_OTHER_HEADERS: Final = (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """An entry of the archive, whose data comes next in the stream."""

    name: str
    size_bytes: int
    kind: bytes


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """Return the next *size* bytes, fewer at the end."""
        ...


class _Gunzipped:
    """The unpacked bytes of a gzip file; never holds more than two pieces of `CHUNK_BYTES`.

    Only the first member is read: a file of a million empty members would take minutes.
    """

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16 stands for the gzip format
        self._pending = b""

    def read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing and not self._unpacker.eof:
            self._pending = self._pending or self._packed.read(CHUNK_BYTES)
            if not self._pending:
                raise _refused("the gzip data ends too early")
            try:
                parts.append(self._unpacker.decompress(self._pending, missing))
            except zlib.error as exc:
                raise _refused("the gzip data is damaged") from exc
            self._pending = self._unpacker.unconsumed_tail
            missing -= len(parts[-1])
        return b"".join(parts)


class _Blocks:
    """The unpacked bytes of an archive, in the order in which they are; never more than a limit."""

    def __init__(self, file: _Readable, limit_bytes: int) -> None:
        self._file = file
        self._left = self._limit_bytes = limit_bytes

    def read(self, size: int) -> bytes:
        """Return the next *size* bytes (one `CHUNK_BYTES` at most), fewer at the end."""
        part = self._file.read(size)
        self._left -= len(part)
        if self._left < 0:
            raise BodyTooLarge(f"the tar unpacks to more than {self._limit_bytes} bytes (max_upload_bytes)")
        return part

    def data(self, member: _Member) -> Iterator[bytes]:
        """Yield the data of *member* and pass over what fills its last block."""
        if member.size_bytes > self._left:
            raise BodyTooLarge(
                f"{cut_name(member.name)} has {member.size_bytes} bytes by its header; the whole tar may unpack to "
                f"{self._limit_bytes} (max_upload_bytes)"
            )
        left = member.size_bytes
        while left:
            part = self.read(min(left, CHUNK_BYTES))
            if not part:
                raise _refused(f"the archive ends within {cut_name(member.name)}")
            left -= len(part)
            yield part
        self.read(-member.size_bytes % tarfile.BLOCKSIZE)


def unpack_adapter(archive: Path, folder: Path, limit_bytes: int) -> list[str]:
    """Write config and weights from *archive* to the new *folder*; return the names of what else the archive has.

    `InvalidRequest` if the archive is none, `BodyTooLarge` where it unpacks to more than *limit_bytes*,
    `AdapterRejected` if the files in it are no adapter.
    """
    folder.mkdir()
    names: set[str] = set()
    with archive.open("rb") as packed:
        blocks = _Blocks(_unpacked(packed), limit_bytes)
        for member in _members(blocks):
            _copy(member, blocks, folder, names)
    return left_out(names)


def _copy(member: _Member, blocks: _Blocks, folder: Path, names: set[str]) -> None:
    """Add the member's name, or that of its topmost folder, to *names*; write the file if an adapter needs it."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise _refused(f"{cut_name(member.name)} is outside of the folder")
    is_needed = str(path) in NEEDED
    if is_needed and member.kind in _LINKS:
        raise _refused(f"{path} is a link; pack the file that it leads to: tar --dereference --hard-dereference")
    if is_needed and member.kind not in _FILES:
        raise _refused(f"{path} is not a file")
    if is_needed and str(path) in names:
        raise _refused(f"{path} is there twice")
    if is_needed:
        with (folder / str(path)).open("wb") as file:
            file.writelines(blocks.data(member))
    else:
        for _ in blocks.data(member):
            pass
    if path.parts:
        is_folder = len(path.parts) > 1 or member.kind == tarfile.DIRTYPE
        names.add(f"{path.parts[0]}/" if is_folder else path.parts[0])


def _unpacked(packed: BinaryIO) -> _Readable:
    first = packed.read(6)
    packed.seek(0)
    for start, name in _COMPRESSED.items():
        if first.startswith(start):
            raise _refused(f"this is {name}; send the tar as it is, or compressed with gzip")
    return _Gunzipped(packed) if first.startswith(_GZIP) else packed


def _members(blocks: _Blocks) -> Iterator[_Member]:
    """Yield the entries of the archive; the caller reads the data of each before the next one."""
    changes: dict[str, str] = {}
    headers_left = ALL_HEADERS
    for _ in range(MOST_MEMBERS):
        header = _header(blocks)
        if header is None:
            return
        if header.type in (*_PAX, *_OTHER_HEADERS, tarfile.GNUTYPE_LONGNAME):
            longest = min(LONGEST_HEADER, headers_left)
            if not 0 <= header.size <= longest:
                raise _refused(f"an extended header of {header.size} bytes; up to {longest} are read here")
            headers_left -= header.size
            changes |= _changes(header, blocks)
            continue
        kind = tarfile.GNUTYPE_SPARSE if any(key.startswith("GNU.sparse") for key in changes) else header.type
        member = _Member(
            name=changes.get("path", header.name),
            size_bytes=0 if kind in _NO_DATA else _size(changes.get("size", str(header.size))),
            kind=kind,
        )
        changes = {}
        if kind == tarfile.GNUTYPE_SPARSE:
            raise _refused(f"{cut_name(member.name)} is a sparse file; pack it without --sparse")
        yield member
    raise _refused(f"more than {MOST_MEMBERS} entries; only {' and '.join(NEEDED)} are needed")


def _header(blocks: _Blocks) -> tarfile.TarInfo | None:
    """Return the next header; None at the end of the archive."""
    block = blocks.read(tarfile.BLOCKSIZE)
    if not block.strip(b"\0"):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as exc:
        raise _refused(f"a header is damaged ({exc})") from exc


def _changes(header: tarfile.TarInfo, blocks: _Blocks) -> dict[str, str]:
    """Return what an extended header states about the next entry: a longer path, a larger size, that it is sparse."""
    text = b"".join(blocks.data(_Member(name="a header", size_bytes=header.size, kind=header.type)))
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": text.rstrip(b"\0").decode(errors="surrogateescape")}
    return _pax_records(text) if header.type in _PAX else {}


def _pax_records(text: bytes) -> dict[str, str]:
    """Return the records of the form `<length> <key>=<value>` and a line feed, the length being that of the record."""
    records: dict[str, str] = {}
    text, at = text.rstrip(b"\0"), 0
    while at < len(text):
        number, space, _ = text[at : at + 8].partition(b" ")
        end = at + (int(number) if space and number.isdigit() else 0)
        key, equals, value = text[at + len(number) + 1 : end].removesuffix(b"\n").partition(b"=")
        if not equals or end > len(text):
            raise _refused("a pax header is damaged")
        records[key.decode(errors="replace")] = value.decode(errors="surrogateescape")
        at = end
    return records


def _size(number: str) -> int:
    # At most 19 digits, so that the number is quick to read; no archive is that large.
    if not (number.isascii() and number.isdigit() and len(number) < 20):
        raise _refused(f"a file has {cut_name(number)} bytes by its header")
    return int(number)


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"the body must be a tar of the adapter folder's files: {why}")
