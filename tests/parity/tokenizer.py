"""Compares the tokenizer with a table of texts and ids: ``python -m tests.parity.tokenizer FILE``.

FILE is a ``tokenizer.json`` as in the golden data of the detector. Each row of the printed table is
one text; its error is the number of unequal ids, mask entries and other recorded facts. Exit code 1 on any miss.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from sam3.model.text.tokenizer import PAD_ID, Tokenizer, clean
from tests.parity.report import Row, print_table


def check(path: Path) -> list[Row]:
    """One row per text of the table at ``path``."""
    table = json.loads(path.read_text(encoding="utf-8"))
    tokenizer = Tokenizer()
    return [_compare(number, case, tokenizer) for number, case in enumerate(table["cases"])]


def _compare(number: int, case: dict[str, Any], tokenizer: Tokenizer) -> Row:
    text, length = case["text"], len(case["ids"])
    ids = tokenizer([text], length)[0].tolist()
    num_tokens = len(tokenizer.encode(text)) + 2
    found = {
        "ids": ids,
        "mask": [token == PAD_ID for token in ids],
        "clean": [clean(text)],
        "n_tokens": [num_tokens],
        "truncated": [num_tokens > length],
        "interior_zero": [PAD_ID in ids[:num_tokens]],
    }
    recorded = {key: case[key] if isinstance(case[key], list) else [case[key]] for key in found if key in case}
    errors = sum(a != b for key, facts in recorded.items() for a, b in zip_longest(found[key], facts))
    return Row(f"{number:3d} {text!r:.60}", float(errors), 0.0)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="tokenizer.json: texts and their ids")
    return 0 if print_table(check(parser.parse_args(argv).file)) else 1


if __name__ == "__main__":
    sys.exit(main())
