"""From tokens to text as it may be sent: whole characters, and nothing of a stop string; and to the bytes of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from re import fullmatch
from types import MappingProxyType
from typing import Final

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from transformers.convert_slow_tokenizer import bytes_to_unicode

from engines.transformers.calls.call_reader import CallPiece, CallReader

_SPACE: Final = "\u2581"
"""How SentencePiece writes a space."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be sent, and whether a stop string ended the answer."""

    text: str
    stopped: bool = False
    calls: tuple[CallPiece, ...] = ()
    """The new parts of the calls, which come after the text."""


class StopFilter:
    """Holds back text that may turn out to be the beginning of a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.met: str | None = None
        """The stop string that ended the answer."""

    def push(self, text: str) -> Piece:
        """Return what may be sent after *text* came; the earliest stop string and all behind it never is."""
        held = self._held + text
        found = [(place, len(stop), stop) for stop in self._stops if (place := held.find(stop)) >= 0]
        if found:
            self._held = ""
            place, _, self.met = min(found)
            return Piece(held[:place], stopped=True)
        keep = max((overlap(held, stop) for stop in self._stops), default=0)
        self._held = held[len(held) - keep :]
        return Piece(held[: len(held) - keep])

    def flush(self) -> str:
        """Return what was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held


class TokenTexts:
    """The text that a client sees of each token, by itself."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {token: added.content for token, added in tokenizer.get_added_tokens_decoder().items()}
        # The decoder's own description is the only place that has its kind, alone or in a sequence.
        self._is_byte_level = b'"ByteLevel"' in tokenizer.decoder.__getstate__()
        self._byte_of = {character: byte for byte, character in bytes_to_unicode().items()}

    def text(self, token: int) -> str:
        """Return the token as text, with a replacement character where it is a piece of a character."""
        return self._tokenizer.decode([token], skip_special_tokens=False)

    def spell(self, token: int) -> bytes:
        """Return the token's own bytes; none for a number that is not in the vocabulary."""
        if token in self._added:
            return self._added[token].encode()
        piece = self._tokenizer.id_to_token(token) or ""
        # GPT-2's form: a printable character for each byte.
        if self._is_byte_level and self._byte_of.keys() >= set(piece):
            return bytes(self._byte_of[character] for character in piece)
        # SentencePiece's form: `<0xF0>` for a byte of a character that has no token.
        if byte := fullmatch("<0x([0-9A-F]{2})>", piece):
            return bytes.fromhex(byte[1])
        return piece.replace(_SPACE, " ").encode()

    def spell_within(self, text: str, tokens: Sequence[int]) -> list[bytes]:
        """Return the bytes of each token as they stand in *text*; of a token that the tokenizer added to it, none."""
        spelled, left = [self.spell(token) for token in tokens], text.encode()
        for place, piece in enumerate(spelled):
            # SentencePiece puts a space before the first word, and a tokenizer may put a beginning before the text.
            spelled[place] = next((form for form in (piece, piece.removeprefix(b" ")) if left.startswith(form)), b"")
            left = left[len(spelled[place]) :]
        return spelled


class TextStream:
    """The text of one sequence, token by token; calls of functions apart from it, where *reader* finds them.

    Stop strings end the text alone. *marks* are special tokens of which calls consist, with their text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: Sequence[str],
        reader: CallReader | None = None,
        marks: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self._tokenizer = tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._filter = StopFilter(stops)
        self._reader = reader
        self._marks = marks

    @property
    def has_called(self) -> bool:
        """Whether the answer has a whole call of a function."""
        return self._reader is not None and self._reader.finished > 0

    @property
    def met_stop(self) -> str | None:
        """The stop string that ended the answer; None where none did."""
        return self._filter.met

    def push(self, token: int) -> Piece:
        """Return the text that *token* completes; bytes of an unfinished character wait for the next token."""
        text = self._decoder.step(self._tokenizer, token) or ""
        if self._reader is None:
            return self._filter.push(text)
        read = self._reader.push(self._marks.get(token, text))
        piece = self._filter.push(read.content)
        if piece.stopped or not read.calls:
            return piece
        return Piece(piece.text + self._filter.flush(), calls=read.calls)

    def flush(self) -> str:
        """Return the rest, when no more tokens come; bytes that never became a character are dropped."""
        if self._reader is None:
            return self._filter.flush()
        piece = self._filter.push(self._reader.flush())
        return piece.text if piece.stopped else piece.text + self._filter.flush()


def overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of *text* that begins *stop* without being all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
