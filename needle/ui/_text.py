"""Untrusted words on a page: what a model, a haystack or a run folder says is never Markdown and never HTML."""

from __future__ import annotations

import streamlit as st

from needle.analysis import printable


def line(text: str) -> str:
    """`text` on one line, unseen characters written out; for places that show plain text only."""
    return printable(" ".join(text.split()))


def plain(text: str) -> None:
    """Show `text` as it is, in a paragraph of its own."""
    st.text(printable(text, keep="\n\t"))


def error(text: str, title: str = "This cannot be shown") -> None:
    """A red box with a fixed title (ours, Markdown) and one plain line below it."""
    st.error(title, icon=":material/error:")
    st.text(line(text))


def warning(text: str, title: str) -> None:
    """An amber box with a fixed title (ours, Markdown) and one plain line below it."""
    st.warning(title, icon=":material/warning:")
    st.text(line(text))
