"""HTML that stands alone: a page of sections with tables, key-value lists and pictures.

Every function returns :class:`Markup`, text that is HTML already; plain strings are escaped wherever they are
given. Charts: :mod:`sam3.report.charts`.
"""

import base64
import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

VOID = {"img", "link", "meta", "circle", "line", "path", "rect"}


class Markup(str):
    """HTML; not escaped again."""

    __slots__ = ()


def escape(value: Any) -> Markup:
    """``value`` as HTML text; :class:`Markup` stays what it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def join(parts: Iterable[Any], between: str = "") -> Markup:
    """All parts, escaped where they are plain text."""
    return Markup(between.join(escape(part) for part in parts))


def element(tag: str, *content: Any, **attributes: Any) -> Markup:
    """``<tag attributes>content</tag>``; ``class_`` means class, ``data_x`` data-x; attributes of None are left out."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{given}/>" if tag in VOID else f"<{tag}{given}>{join(content)}</{tag}>")


@dataclass(frozen=True)
class Section:
    """A part of the page that the menu names."""

    title: str
    body: Markup

    @property
    def anchor(self) -> str:
        return re.sub(r"\W+", "-", self.title.lower()).strip("-") or "section"


def section(title: str, *content: Any) -> Section:
    """Title and content; None among the content is left out."""
    return Section(title, join(part for part in content if part is not None))


def page(title: str, sections: Sequence[Section], *, summary: Any = "", footer: Any = "") -> str:
    """The whole document.

    Args:
        summary: what is seen first, above the menu.
        footer: the last line.
    """
    menu = [element("a", part.title, href=f"#{part.anchor}") for part in sections]
    bodies = [element("section", element("h2", part.title), part.body, id=part.anchor) for part in sections]
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href="data:,"),  # browsers would ask for a favicon otherwise
        element("style", _file("style.css")),
    ]
    body = [
        element("header", element("h1", title), summary),
        element("nav", *menu) if len(menu) > 1 else "",
        element("main", *bodies),
        element("footer", footer) if footer else "",
        element("script", _file("script.js")),
    ]
    return f'<!DOCTYPE html>\n<html lang="en">\n{element("head", *head)}\n{element("body", *body)}\n</html>\n'


@cache
def _file(name: str) -> Markup:
    return Markup((files("sam3.report") / name).read_text(encoding="utf-8"))


def paragraph(*content: Any, muted: bool = False) -> Markup:
    return element("p", *content, class_="muted" if muted else None)


def missing(what: str) -> Markup:
    """Says that something could not be shown, and why."""
    return element("p", what, class_="missing")


def key_values(entries: Mapping[str, Any]) -> Markup:
    """Names and values, one below the other."""
    return element("dl", *(element("dt", name) + element("dd", value) for name, value in entries.items()))


def tiles(entries: Mapping[str, Any]) -> Markup:
    """A few numbers in large type."""
    shown = [element("div", element("b", value), element("span", name)) for name, value in entries.items()]
    return element("div", *shown, class_="tiles")


def number(value: Any, digits: int = 3) -> str:
    """A float with ``digits`` decimals, a count with separators, a dash for None and for what is not finite."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    return f"{value:.{digits}f}" if isinstance(value, float | np.floating) else str(value)


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]], *, caption: Any = None, digits: int = 3) -> Markup:
    """A table that a click on a heading sorts; numbers to the right, as :func:`number` writes them."""
    if not rows:
        return paragraph("nothing to list", muted=True)
    columns = range(len(head))
    numeric = [all(_is_number(row[column]) for row in rows) for column in columns]
    kinds = ["number" if is_number else None for is_number in numeric]
    top = [element("th", head[column], class_=kinds[column], scope="col", tabindex=0) for column in columns]
    body = [element("tr", *(_cell(row[column], kinds[column], digits) for column in columns)) for row in rows]
    whole = element("table", element("thead", element("tr", *top)), element("tbody", *body), class_="sortable")
    above = paragraph(caption, muted=True) if caption else ""  # a <caption> would scroll away with a wide table
    return join([above, element("div", whole, class_="scroll")])


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float | np.number) and not isinstance(value, bool))


def _cell(value: Any, kind: str | None, digits: int) -> Markup:
    if kind is None:
        return element("td", "–" if value is None else value)
    key = -math.inf if value is None or not math.isfinite(value) else value
    return element("td", number(value, digits), class_="number", data_sort=f"{float(key):.9g}")


def details(title: Any, *content: Any, is_open: bool = False) -> Markup:
    """Content that a click unfolds."""
    return element("details", element("summary", title), *content, open="" if is_open else None)


def code(text: str) -> Markup:
    """Text as it is written, such as a configuration."""
    return element("pre", element("code", text))


def image(picture: np.ndarray | Image.Image, alt: str, *, quality: int = 82) -> Markup:
    """A picture inside the file, as JPEG.

    Args:
        picture: Pillow image, or (H, W, 3) uint8.
        alt: what stands there for those who cannot see it.
    """
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=quality, optimize=True)
    source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return element("img", src=source, alt=alt, width=picture.width, height=picture.height, loading="lazy")


def image_grid(pictures: Iterable[tuple[Markup, Any]], *, least_width: int = 320) -> Markup:
    """Pictures (:func:`image`) with captions, as many side by side as there is room for.

    Args:
        least_width: of one picture, pixels of the screen.
    """
    figures = [element("figure", picture, element("figcaption", caption)) for picture, caption in pictures]
    return element("div", *figures, class_="grid", style=f"--least:{least_width}px")
