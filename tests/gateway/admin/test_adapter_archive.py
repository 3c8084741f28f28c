"""From any tar the gateway takes an adapter's two files, within bounds, and nothing else."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.admin.adapter_archive import MOST_MEMBERS, unpack_adapter
from gateway.cli.adapter_tar import AdapterTar
from gateway.errors import BodyTooLarge, InvalidRequest
from registry.errors import AdapterRejected

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LIMIT = 64 * 1024 * 1024

Unpack = Callable[[bytes], list[str]]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The folder to unpack into."""
    return tmp_path / "inner" / "adapter"


@pytest.fixture
def unpack(target: Path) -> Unpack:
    """Unpack an archive; nothing but the two files may appear anywhere, and little memory be used."""
    top = target.parent.parent
    target.parent.mkdir()

    def run(content: bytes) -> list[str]:
        (top / "archive").write_bytes(content)
        tracemalloc.start()
        try:
            return unpack_adapter(top / "archive", target, LIMIT)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 2 * 1024 * 1024
            found = {path.relative_to(top).as_posix() for path in top.rglob("*") if not path.is_dir()}
            assert found <= {"archive", f"inner/adapter/{CONFIG}", f"inner/adapter/{WEIGHTS}"}

    return run


def entry(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(*entries: tuple[tarfile.TarInfo, bytes], style: int = tarfile.PAX_FORMAT) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=style) as file:
        for info, content in entries:
            file.addfile(info, io.BytesIO(content))
    return archive.getvalue()


ADAPTER = (entry(f"./{CONFIG}", b"{}"), entry(f"./{WEIGHTS}", b"w" * 1000))


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_two_files_are_taken_and_the_rest_is_named(
    unpack: Unpack, target: Path, style: int, pack: Callable[[bytes], bytes]
) -> None:
    others = (
        entry("./", type=tarfile.DIRTYPE),
        entry("runs/deep/events", b"x"),
        entry("training_args.bin", b"\x80"),
        entry("checkpoint-10", type=tarfile.DIRTYPE),
        entry("latest", type=tarfile.SYMTYPE, linkname="checkpoint-10"),
        entry(("long" * 20 + "/") * 2 + "é.txt", b"y" * 700, pax_headers={"comment": "c" * 5000}),
    )
    left_out = unpack(pack(tar(*others, *ADAPTER, style=style)))
    assert left_out == ["checkpoint-10/", "latest", "long" * 20 + "/", "runs/", "training_args.bin"]
    assert ((target / CONFIG).read_bytes(), (target / WEIGHTS).read_bytes()) == (b"{}", b"w" * 1000)


def test_the_tar_of_the_command_is_one_and_follows_links(unpack: Unpack, tmp_path: Path, target: Path) -> None:
    folder = tmp_path.parent / f"{tmp_path.name}-folder"
    folder.mkdir()
    (folder / "blob").write_bytes(b"w" * 12345)
    (folder / CONFIG).write_bytes(b"{}")
    (folder / WEIGHTS).symlink_to("blob")
    with AdapterTar(folder, ["blob", "runs/", "long" * 50]) as made:
        content = b"".join(made.chunks())
        assert len(content) == made.size_bytes
    assert unpack(content) == ["blob", "long" * 50, "runs/"]
    assert (target / WEIGHTS).read_bytes() == b"w" * 12345
    with tarfile.open(fileobj=io.BytesIO(content)) as tar_of_names:
        assert tar_of_names.getnames() == ["blob", "runs", "long" * 50, CONFIG, WEIGHTS]


def sparse(size: int) -> bytes:
    """A file of *size* bytes of which none is in the archive."""
    info = entry(WEIGHTS, type=tarfile.GNUTYPE_SPARSE)[0]
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (size, 0)
    block[483:495] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


PAX_SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 31)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "missing"),
        (b"no tar", "a header is damaged"),
        (tar(entry("../out", b"x"), *ADAPTER), r"\.\./out is outside"),
        (tar(entry("/etc/out", b"x"), *ADAPTER), "/etc/out is outside"),
        (tar(entry(WEIGHTS, type=tarfile.SYMTYPE, linkname="/etc/passwd")), f"{WEIGHTS} is a link; .*dereference"),
        (tar(entry(WEIGHTS, type=tarfile.LNKTYPE, linkname="x")), f"{WEIGHTS} is a link"),
        (tar(entry(WEIGHTS, type=tarfile.FIFOTYPE)), f"{WEIGHTS} is not a file"),
        (tar(ADAPTER[0], ADAPTER[0]), "is there twice"),
        (sparse(1 << 31) + bytes(1024), f"{WEIGHTS} is a sparse file"),
        (tar(entry(WEIGHTS, b"1\n", pax_headers=PAX_SPARSE)), f"{WEIGHTS} is a sparse file"),
        (tar(*ADAPTER)[:1600], f"the archive ends within ./{WEIGHTS}"),
        (tar(entry("x", pax_headers={"comment": "c" * 100_000})), "an extended header of 1000.. bytes"),
        (tar(entry("n" * 100_000), style=tarfile.GNU_FORMAT), "an extended header of 100001 bytes"),
        (tar(entry("x", pax_headers={"size": "9" * 5000})), "9999.* bytes by its header"),
        (tar(entry("x", b"a" * 20, pax_headers={"a": "b"})).replace(b"6 a=b\n", b"9 a=b\n"), "a pax header is damaged"),
        (tar(entry("x", b"a" * 20, pax_headers={"a": "b"})).replace(b"6 a=b\n", b"0 a=b\n"), "a pax header is damaged"),
        (b"BZh9", "this is bzip2"),
        (b"\xfd7zXZ\x00", "this is xz"),
        (b"PK\x03\x04", "this is zip"),
        (b"\x1f\x8b\x08" + b"x" * 100, "the gzip data is damaged"),
        (gzip.compress(tar(*ADAPTER), mtime=0)[:60], "the gzip data ends too early"),
    ],
)
def test_an_archive_that_is_none_or_means_harm_is_refused(unpack: Unpack, content: bytes, message: str) -> None:
    with pytest.raises((InvalidRequest, AdapterRejected), match=message) as refused:
        unpack(content)
    assert len(str(refused.value)) < 400


@pytest.mark.long
def test_many_entries_are_refused(unpack: Unpack) -> None:
    with pytest.raises(InvalidRequest, match="more than 10000 entries"):
        unpack(entry("x")[0].tobuf() * (MOST_MEMBERS + 1))


def test_many_long_headers_are_refused(unpack: Unpack) -> None:
    with pytest.raises(InvalidRequest, match="an extended header of"):
        unpack(entry("x", pax_headers={"c": "c" * 60_000})[0].tobuf(tarfile.PAX_FORMAT) * 160)


def test_a_header_makes_no_more_of_a_small_archive(unpack: Unpack) -> None:
    huge = entry("x")[0]
    huge.size = LIMIT + 1
    with pytest.raises(BodyTooLarge, match="x has 67108865 bytes by its header"):
        unpack(huge.tobuf(tarfile.GNU_FORMAT))


@pytest.mark.long
def test_compression_makes_no_more_of_it_either(unpack: Unpack) -> None:
    bomb = gzip.compress(tar(*[entry(f"f{n}", bytes(LIMIT // 4)) for n in range(5)]))
    assert len(bomb) < LIMIT / 100
    with pytest.raises(BodyTooLarge, match="67108864"):
        unpack(bomb)


def test_of_a_gzip_file_of_many_members_only_the_first_is_read(unpack: Unpack) -> None:
    with pytest.raises(AdapterRejected, match="missing"):
        unpack(gzip.compress(b"", mtime=0) * 200_000 + gzip.compress(tar(*ADAPTER)))
