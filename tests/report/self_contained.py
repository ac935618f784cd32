"""Reads a page as a browser would and lists what it would fetch."""

import re
from html.parser import HTMLParser

FETCHING = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"}
LOCAL = ("data:", "#")
NO_END = {"img", "link", "meta", "br", "hr", "input"}


class Page(HTMLParser):
    """Text, elements and outward references of a document; refuses tags that are not closed in order."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(document)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._seen(tag, attrs)
        if tag not in NO_END:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._seen(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("style", "script"):
            self.references += _in_style(data) + re.findall(r"https?://\S+|fetch\(|import\(|XMLHttpRequest", data)
        else:
            self.text.append(data)

    def _seen(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in FETCHING and not (value or "").startswith(LOCAL):
                self.references.append(f"{tag} {name}={value}")
            if name == "style":
                self.references += _in_style(value or "")


def _in_style(text: str) -> list[str]:
    targets = re.findall(r"url\(\s*['\"]?([^)'\"]*)", text) + re.findall(r"@import\s+(\S+)", text)
    return [target for target in targets if not target.startswith(LOCAL)]
