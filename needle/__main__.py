"""`python -m needle`, the same as the `needle` command."""

from __future__ import annotations

from needle.cli import main

if __name__ == "__main__":
    main()
