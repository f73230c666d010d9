"""Untrusted text with places marked in it, on a sheet that can do nothing.

Streamlit's own ways to colour a part of a text are Markdown and HTML in the page itself. Here every piece is escaped,
and the whole lies in a frame of its own: a `data:` address, whose origin is not the app's, under a policy that allows
neither scripts nor images nor requests.
"""

from __future__ import annotations

import base64
from html import escape

import streamlit as st

from needle.analysis import printable

MOST = 1_400_000
"""Bytes of a sheet; in an address a third more, and browsers take two million."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
_LIGHT = {
    "ink": "#262a33", "quiet": "#5d6470", "line": "#d9dce3", "ground": "#f8f8f6",
    "needle": "#b6efdc", "distractor": "#ffdf9e", "wrong": "#ffc9d4",
}  # fmt: skip
_DARK = {
    "ink": "#ebebe8", "quiet": "#aeaea8", "line": "#45443f", "ground": "#22221f",
    "needle": "#0d5f47", "distractor": "#6b4c06", "wrong": "#7c2438",
}  # fmt: skip
_STYLE = """
:root { %(vars)s color-scheme: %(scheme)s; }
html { background: var(--ground); }
body { margin: 0; padding: .7rem .9rem; color: var(--ink);
  font: 14px/1.55 "Source Sans 3", "Source Sans Pro", system-ui, -apple-system, "Segoe UI", sans-serif; }
h2 { font-size: 12px; font-weight: 600; letter-spacing: .03em; color: var(--quiet); margin: .9rem 0 .2rem; }
h2:first-child { margin-top: 0; }
p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
bdi { unicode-bidi: isolate; }
mark { color: inherit; border-radius: 3px; padding: 1px 2px; -webkit-box-decoration-break: clone; }
mark.needle { background: var(--needle); font-weight: 600; }
mark.distractor { background: var(--distractor); }
mark.wrong { background: var(--wrong); }
.gap { display: block; color: var(--quiet); font-size: 12px; margin: .35rem 0; border-top: 1px dashed var(--line); }
.frame { color: var(--quiet); }
#needle { scroll-margin-top: 9rem; }
.none { color: var(--quiet); font-style: italic; }
.token { display: inline-block; margin: 0 4px 4px 0; padding: 1px 6px; border-radius: 4px; color: #16181d;
  text-align: center; white-space: pre; }
.token small { display: block; font-size: 11px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .9rem; margin: 0; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
"""


def words(text: str) -> str:
    """`text` as HTML that is nothing but text: unseen characters written out, all signs of markup escaped."""
    return f"<bdi>{escape(printable(text, keep=chr(10) + chr(9)))}</bdi>" if text else ""


def marked(text: str, kind: str) -> str:
    """`text`, escaped, on the colour of a needle, a distractor or something wrong; white space around it stays bare."""
    bare = text.strip()
    at = text.find(bare)
    before, after = text[:at], text[at + len(bare) :]
    return f'{words(before)}<mark class="{escape(kind)}">{words(bare)}</mark>{words(after)}'


def section(title: str, body: str) -> str:
    """A title of ours above a paragraph of escaped HTML."""
    return f"<h2>{escape(title)}</h2><p>{body}</p>"


def facts(pairs: list[tuple[str, str]]) -> str:
    """Names and values, escaped, as a list in two columns."""
    return "<dl>" + "".join(f"<dt>{words(name)}</dt><dd>{words(value)}</dd>" for name, value in pairs) + "</dl>"


def sheet(body: str, dark: bool) -> str:
    """The whole document around `body`, which is escaped HTML from the functions above."""
    colours = _DARK if dark else _LIGHT
    told = {
        "vars": " ".join(f"--{name}: {value};" for name, value in colours.items()),
        "scheme": "dark" if dark else "light",
    }
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<title>needle</title><style>{_STYLE % told}</style></head><body tabindex="0">{body}</body></html>'
    )


def show(body: str, height: int, at: str = "") -> None:
    """Put a sheet with `body` on the page, `height` pixels high; what is longer scrolls, and begins at the id `at`."""
    at = f"#{at}" if at else ""
    document = sheet(body, st.context.theme.type == "dark").encode("utf-8")
    st.iframe("data:text/html;charset=utf-8;base64," + base64.b64encode(document).decode() + at, height=height)


def fits(body: str) -> bool:
    """Whether a sheet with `body` is one that browsers take."""
    return len(body.encode("utf-8")) + 8192 < MOST


def tall(characters: int, lines: int = 1, least: int = 90, most: int = 480) -> int:
    """A height in pixels for so many characters on at least so many lines."""
    return min(max(least, 40 + 22 * max(lines, characters // 80 + 1)), most)
