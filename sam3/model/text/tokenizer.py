"""Phrases to token ids: CLIP byte-pair encoding with the OpenCLIP vocabulary (spec/detector.md section 3).

A phrase is cleaned, split into words and signs, and each piece is merged from bytes to the longest
symbols the vocabulary knows. Rows start with the start token, end with the end token, and are padded with 0.
"""

import gzip
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from itertools import pairwise
from pathlib import Path

import ftfy
import regex
import torch
from torch import Tensor

from sam3.errors import ConfigError, UserError

VOCABULARY_FILE = "assets/bpe_simple_vocab_16e6.txt.gz"
NUM_MERGES = 48894  # the file holds more; the text encoder was trained with these
START, END = "<start_of_text>", "<end_of_text>"
PAD_ID = 0
CONTEXT_LENGTH = 32

_PIECES = regex.compile(
    rf"{regex.escape(START)}|{regex.escape(END)}|'s|'t|'re|'ve|'m|'ll|'d|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+",
    regex.IGNORECASE,
)
_WORD_END = "</w>"


class Tokenizer:
    """Turns phrases into rows of token ids.

    Args:
        bpe_path: vocabulary file (text, gzipped or not; the whole OpenCLIP file or one cut after the
            merges that are used); ``None`` takes the packaged one. See :func:`resolve_bpe_path`.
        context_length: default number of ids in a row.
    """

    def __init__(self, bpe_path: str | Path | None = None, context_length: int = CONTEXT_LENGTH) -> None:
        self.context_length = context_length
        self._vocabulary = _load_vocabulary(resolve_bpe_path(bpe_path))

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """Ids of N texts, (N, context_length) long: start, text, end, zeros.

        A text that does not fit is cut and still ends with the end token.

        Raises:
            UserError: something that is not text, or a length below 2.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        length = self.context_length if context_length is None else context_length
        if length < 2:
            raise UserError(f"context_length must hold at least the start and the end token, got {length}")
        rows = torch.full((len(texts), length), PAD_ID, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = [self.sot_token_id, *self.encode(text)][: length - 1] + [self.eot_token_id]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def encode(self, text: str) -> list[int]:
        """Ids of one text, without start, end and padding. Recent texts are remembered."""
        if not isinstance(text, str):
            raise UserError(f"a prompt must be text, got {type(text).__name__}: {text!r:.80}")
        return list(_encode(self._vocabulary, text))

    def decode(self, ids: Iterable[int]) -> str:
        """The cleaned text behind ``ids``, pieces separated by spaces; broken UTF-8 becomes U+FFFD."""
        symbols = "".join(self.decoder[int(token)] for token in ids)
        raw = bytes(self._vocabulary.symbol_to_byte[symbol] for symbol in symbols)
        return raw.decode("utf-8", errors="replace").replace(_WORD_END, " ")

    @property
    def encoder(self) -> dict[str, int]:
        """Token to id."""
        return self._vocabulary.encoder

    @property
    def decoder(self) -> dict[int, str]:
        """Id to token."""
        return self._vocabulary.decoder

    @property
    def bpe_ranks(self) -> dict[tuple[str, str], int]:
        """Pair of symbols to its rank; the lowest rank merges first."""
        return self._vocabulary.ranks

    @property
    def sot_token_id(self) -> int:
        return self.encoder[START]

    @property
    def eot_token_id(self) -> int:
        return self.encoder[END]

    @property
    def all_special_ids(self) -> list[int]:
        return [self.sot_token_id, self.eot_token_id]

    @property
    def vocab_size(self) -> int:
        return len(self.encoder)


def resolve_bpe_path(path: str | Path | None = None) -> Path:
    """Where the vocabulary lies: as given, below the repository root, or below the ``sam3`` package.

    ``None`` is the packaged file; so is ``assets/bpe_simple_vocab_16e6.txt.gz``, the path of the
    published configurations, wherever the program was started.

    Raises:
        ConfigError: nowhere to be found; the message lists the places.
    """
    package = Path(str(resources.files("sam3")))
    if path is None:
        return package / VOCABULARY_FILE
    tried = [Path(path).expanduser(), package.parent / path, package / path]
    for candidate in tried:
        if candidate.is_file():
            return candidate.resolve()
    places = ", ".join(str(candidate) for candidate in dict.fromkeys(tried))
    raise ConfigError(f"vocabulary file {str(path)!r} not found; tried {places}. null means the packaged file")


def clean(text: str) -> str:
    """Repair broken Unicode, undo HTML escapes (twice), join white space, lower the case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return regex.sub(r"\s+", " ", text).strip().lower()


@dataclass(frozen=True, eq=False)
class _Vocabulary:
    """Tokens in the order of their ids, and the ranks of the merges."""

    tokens: list[str]
    ranks: dict[tuple[str, str], int]

    @cached_property
    def encoder(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    @cached_property
    def decoder(self) -> dict[int, str]:
        return dict(enumerate(self.tokens))

    @cached_property
    def byte_to_symbol(self) -> dict[int, str]:
        return _byte_symbols()

    @cached_property
    def symbol_to_byte(self) -> dict[str, int]:
        return {symbol: byte for byte, symbol in self.byte_to_symbol.items()}


@lru_cache(maxsize=4)
def _load_vocabulary(path: Path) -> _Vocabulary:
    symbols = list(_byte_symbols().values())
    merges = _read_merges(path)
    joined = [first + second for first, second in merges]
    tokens = [*symbols, *(symbol + _WORD_END for symbol in symbols), *joined, START, END]
    return _Vocabulary(tokens, {pair: rank for rank, pair in enumerate(merges)})


def _read_merges(path: Path) -> list[tuple[str, str]]:
    """The merges in use: lines 1..48894; line 0 is a header, lines beyond are not used."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")[1 : NUM_MERGES + 1]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"vocabulary file '{path}' cannot be read: {error}") from error
    merges = [tuple(line.split()) for line in lines]
    if len(merges) < NUM_MERGES or any(len(merge) != 2 for merge in merges):
        raise ConfigError(
            f"vocabulary file '{path}' does not hold {NUM_MERGES} lines of two symbols after its header; "
            f"expected {Path(VOCABULARY_FILE).name} of OpenCLIP (null takes the packaged file)"
        )
    return merges


def _byte_symbols() -> dict[int, str]:
    """One printable character per byte, in the order of the first 256 ids.

    Printable bytes stand for themselves; the other 68 get the characters from code point 256 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


@lru_cache(maxsize=65536)
def _encode(vocabulary: _Vocabulary, text: str) -> tuple[int, ...]:
    ids: list[int] = []
    for piece in _PIECES.findall(clean(text)):
        if piece in (START, END):
            ids.append(vocabulary.encoder[piece])
        else:
            ids.extend(vocabulary.encoder[symbol] for symbol in _merge(piece, vocabulary))
    return tuple(ids)


def _merge(piece: str, vocabulary: _Vocabulary) -> list[str]:
    """Symbols of one piece: all occurrences of the best-ranked pair are joined until no pair is known."""
    symbols = [vocabulary.byte_to_symbol[byte] for byte in piece.encode("utf-8")]
    symbols[-1] += _WORD_END
    ranks, unknown = vocabulary.ranks, len(vocabulary.ranks)
    while len(symbols) > 1:
        best = min(pairwise(symbols), key=lambda pair: ranks.get(pair, unknown))
        if best not in ranks:
            break
        symbols = _join(symbols, best)
    return symbols


def _join(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """``symbols`` with every occurrence of ``pair`` joined, left to right, not overlapping."""
    joined: list[str] = []
    position = 0
    while position < len(symbols):
        width = 2 if tuple(symbols[position : position + 2]) == pair else 1
        joined.append("".join(symbols[position : position + width]))
        position += width
    return joined
