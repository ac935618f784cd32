"""The tokenizer against its reference table, its own invariants and an independent implementation."""

import copy
import gzip
import hashlib
import pickle
from pathlib import Path

import pytest
import torch

from sam3.errors import ConfigError, UserError
from sam3.model.text.tokenizer import NUM_MERGES, Tokenizer, clean, resolve_bpe_path
from tests.parity import tokenizer as parity

ODD_TEXTS = [
    "café au lait",
    "gelber Bus!!",
    "a 2x4 plank, 3.5 m",
    "кошка и 🐶",
    "日本語の猫",
    "x²+y³=½",
    "dog's",
    "¿qué?",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer()


def test_reference_table(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([str(repository / "tests/golden/tokenizer.json")]) == 0
    assert "86 / 86" in capsys.readouterr().out


def test_parity_program_reports_a_miss(repository: Path, tmp_path: Path) -> None:
    table = (repository / "tests/golden/tokenizer.json").read_text(encoding="utf-8")
    broken = tmp_path / "tokenizer.json"
    broken.write_text(table.replace("[49406,2533,49407,", "[49406,2534,49407,", 1), encoding="utf-8")
    assert parity.main([str(broken)]) == 1


def test_vocabulary_file_is_the_published_one() -> None:
    packed = resolve_bpe_path().read_bytes()
    assert hashlib.sha256(packed).hexdigest() == "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
    text = gzip.decompress(packed)
    assert hashlib.sha256(text).hexdigest() == "67603cfda2e032ad77b5f8808af37789d590db664b26df8705d2bf8b3c553fc8"
    notice = (resolve_bpe_path().parent / "NOTICE.md").read_text(encoding="utf-8")
    assert "Permission is hereby granted" in notice


def test_vocabulary_layout(tokenizer: Tokenizer) -> None:
    assert (tokenizer.vocab_size, tokenizer.sot_token_id, tokenizer.eot_token_id) == (49408, 49406, 49407)
    assert tokenizer.all_special_ids == [49406, 49407]
    assert tokenizer.encoder["!"] == 0
    assert tokenizer.encoder["!</w>"] == 256
    assert tokenizer.decoder[512] == "in"
    assert tokenizer.bpe_ranks["i", "n"] == 0


@pytest.mark.parametrize("count", [0, 1, 3])
def test_one_row_per_text(tokenizer: Tokenizer, count: int) -> None:
    rows = tokenizer(["cat"] * count)
    assert rows.shape == (count, 32)
    assert rows.dtype == torch.long


def test_a_single_string_is_one_text(tokenizer: Tokenizer) -> None:
    assert tokenizer("red car", 6).tolist() == tokenizer(["red car"], 6).tolist() == [[49406, 736, 1615, 49407, 0, 0]]


def test_long_text_is_cut_and_keeps_its_end(tokenizer: Tokenizer) -> None:
    assert tokenizer("a b c d e", 4).tolist() == [[49406, 320, 321, 49407]]


def test_decode_inverts_encode(tokenizer: Tokenizer) -> None:
    for text in ["a red , shiny car !", "кошка", "日本語の猫"]:
        assert tokenizer.decode(tokenizer.encode(text)).strip() == text
    assert tokenizer.decode(tokenizer("cat")[0, :3]) == "<start_of_text>cat <end_of_text>"
    half_a_character = tokenizer.encoder[chr(0xE3)]
    assert tokenizer.decode([half_a_character]) == "\N{REPLACEMENT CHARACTER}"


def test_remembered_text_cannot_be_changed_by_the_caller(tokenizer: Tokenizer) -> None:
    tokenizer.encode("zebra crossing").append(7)
    assert 7 not in tokenizer.encode("zebra crossing")


def test_copies_and_pickles_encode_alike(tokenizer: Tokenizer) -> None:
    for other in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert other.encode("blue square") == tokenizer.encode("blue square")


@pytest.mark.parametrize("bad", [None, 3, b"cat", ["cat"]])
def test_a_prompt_that_is_no_text_is_refused(tokenizer: Tokenizer, bad: object) -> None:
    with pytest.raises(UserError, match="must be text"):
        tokenizer([bad])


def test_cleaning() -> None:
    assert clean("  A&amp;amp;B\n\t schÃ¶n ") == "a&b schön"
    assert clean("<&amp;amp;") == "<&"  # ftfy leaves escapes alone beside a tag, so both unescapes are needed


@pytest.mark.parametrize("where", ["elsewhere", "repository"])
def test_documented_path_resolves_from_anywhere(
    where: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository if where == "repository" else tmp_path)
    assert resolve_bpe_path("assets/bpe_simple_vocab_16e6.txt.gz") == resolve_bpe_path(None)


def test_given_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "assets" / "bpe_simple_vocab_16e6.txt.gz"
    own.parent.mkdir()
    own.write_bytes(b"own")
    monkeypatch.chdir(tmp_path)
    assert resolve_bpe_path("assets/bpe_simple_vocab_16e6.txt.gz") == own


def test_missing_vocabulary_lists_the_places() -> None:
    with pytest.raises(ConfigError, match=r"'nowhere\.txt' not found; tried nowhere\.txt, .*, .*sam3.nowhere\.txt"):
        Tokenizer("nowhere.txt")


@pytest.mark.parametrize("name", ["gekürzt.txt", "gekürzt.txt.gz"])
def test_trimmed_vocabulary_is_the_same(name: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    lines = gzip.decompress(resolve_bpe_path().read_bytes()).decode().split("\n")[: NUM_MERGES + 1]
    trimmed = tmp_path / name
    packed = "\n".join(lines).encode()
    trimmed.write_bytes(gzip.compress(packed) if name.endswith(".gz") else packed)
    assert Tokenizer(trimmed).encoder == tokenizer.encoder


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("short.txt", b"header\ni n\n"),
        ("plain.txt.gz", b"not gzip"),
        ("cut.txt.gz", gzip.compress(b"a b\n" * 99, mtime=0)[:-9]),
    ],
)
def test_broken_vocabulary_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        Tokenizer(tmp_path / name)


def test_independent_implementation_agrees(tokenizer: Tokenizer) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the peer implementation is not installed")
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    peer = tokenizers.Tokenizer(
        tokenizers.models.BPE(tokenizer.encoder, merges, end_of_word_suffix="</w>", unk_token="<end_of_text>")
    )
    pieces = tokenizers.Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    peer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(pieces, behavior="removed", invert=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    for text in ODD_TEXTS:
        assert tokenizer.encode(text) == peer.encode(clean(text)).ids, text
