"""The pages of the console, with their pictures."""

from __future__ import annotations

from tests.browser.pictures import PICTURES, Picture


def pages() -> str:
    """Return a section a picture."""
    return "\n".join(map(_section, PICTURES))


def _section(picture: Picture) -> str:
    wide = f"![{picture.title}, on a desk](console/{picture.name}.png)"
    narrow = f"![{picture.title}, on a phone](console/narrow-{picture.name}.png)"
    return f"## {picture.title}\n\n{picture.shows}\n\n{wide}\n\n{narrow}\n"
