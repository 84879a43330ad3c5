"""A hook of mkdocs: links that leave docs/, such as ../README.md, become plain text in the site."""

import re
from typing import Any


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page without links to files of the repository that the site does not have."""
    up = "../" * (page.file.src_uri.count("/") + 1)
    return re.sub(rf"\[([^\]]+)\]\({re.escape(up)}[^)]+\)", r"\1", markdown)
