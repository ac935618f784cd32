"""What a Markdown guide promises: its commands, code, tables and links."""

import re
from pathlib import Path


def blocks(document: Path, language: str) -> list[str]:
    """Contents of the fenced blocks of one language, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def commands(document: Path) -> list[str]:
    """Command lines of the ``bash`` blocks without comments; continued lines are joined."""
    lines = "\n".join(blocks(document, "bash")).replace("\\\n", " ").splitlines()
    stripped = (re.sub(r"\s#.*", "", line).strip() for line in lines)
    return [re.sub(r"\s+", " ", line) for line in stripped if line and not line.startswith("#")]


def table_rows(document: Path, first_cell: str) -> list[list[str]]:
    """Cells of the table whose header starts with ``first_cell``."""
    lines = document.read_text(encoding="utf-8").splitlines()
    (start,) = [i for i, line in enumerate(lines) if re.match(rf"\|\s*{re.escape(first_cell)}\s*\|", line)]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def local_links(document: Path) -> list[str]:
    """Targets of links and pictures that are files of the repository."""
    targets = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target]
