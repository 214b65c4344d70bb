"""The documentation as a site: `make docs` builds it, and any warning is an error.

Nothing is fetched where it is read: no fonts, no scripts of others; the search is in the pages.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

project = "rs-delivery"
author = "the authors of rs-delivery"
# Read, not imported: the site is built without the program.
_found = re.search(
    r'^__version__ = "(.+)"$',
    Path(__file__).parents[1].joinpath("app", "__init__.py").read_text("utf-8"),
    re.MULTILINE,
)
if _found is None:
    raise ValueError("app/__init__.py names no version")
version = release = _found[1]

extensions = ["myst_parser"]
# Anchors as forges make them, so that a link is right in both places.
myst_heading_anchors = 4
# A folder of the pictures and schemas that pages show or link to.
exclude_patterns = ["models", "schemas", "console"]
nitpicky = True

html_theme = "furo"
html_title = f"rs-delivery {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_last_updated_fmt = None  # the same text gives the same pages
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["site"]
html_css_files = ["site.css"]

# Texts that lie elsewhere in the repository: their pages lead to them on a forge; here they are
# the pages.
_DOCS = Path(__file__).parent
_ELSEWHERE = {
    "changelog": "../CHANGELOG.md",
    "client": "../web/client/README.md",
    "contributing": "../CONTRIBUTING.md",
    "security": "../SECURITY.md",
}
_PAGES = {file: f"{page}.md" for page, file in _ELSEWHERE.items()}
_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#]+)")


def _read(_app: Any, page: str, source: list[str]) -> None:
    """Put a text in the place of its page, and lead links to pages."""
    folder = _DOCS
    if page in _ELSEWHERE:
        file = _DOCS / _ELSEWHERE[page]
        source[0], folder = file.read_text("utf-8"), file.resolve().parent

    def lead(link: re.Match[str]) -> str:
        to = os.path.relpath(folder / link[1], _DOCS)
        return f"]({_PAGES.get(to, to)}"

    source[0] = _LINK.sub(lead, source[0])


def setup(app: Any) -> None:
    """Register it; Sphinx calls this."""
    app.connect("source-read", _read)
