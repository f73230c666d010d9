"""Needle-in-a-haystack evaluation and visualisation for long-context language models."""

__version__ = "0.1.0"
