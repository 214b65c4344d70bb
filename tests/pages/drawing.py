"""The states of a delivery as a drawing: an SVG that reads `TRANSITIONS`, and the same in words.

The way to `DONE` goes down, in the order of the states; `ERROR` stands beside it. What leads past a
state goes around it on the left, what leads to the same state is a loop on the right.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.delivery.states import TRANSITIONS, State

_WIDTH, _BOX, _HEIGHT, _STEP = 520, 200, 44, 76  # user units: of all, of a box, from box to box
_LEFT, _TOP = 90, 20
_RIGHT, _MIDDLE = _LEFT + _BOX, _LEFT + _BOX // 2
_ERROR = 410  # where its box begins
_WAY = tuple(state for state in State if state is not State.ERROR)
_STYLE = (
    "rect{fill:#f4f7fa;stroke:#55606c;stroke-width:1.5}"
    ".ground{fill:#fff;stroke:none}"
    ".end{stroke-width:3}"
    "path{fill:none;stroke:#55606c;stroke-width:1.5;marker-end:url(#arrow)}"
    ".ends{stroke:#b3151f;marker-end:url(#red)}"
    "text{font:600 15px system-ui,sans-serif;fill:#14181d;text-anchor:middle}"
    ".work{font-weight:400;font-size:12px;fill:#55606c}"
)


def in_words() -> str:
    """Return what the drawing shows, as its text alternative."""
    said = []
    for state, after in TRANSITIONS.items():
        names = [other if other is not state else "itself" for other in State if other in after]
        *others, last = names or ["nothing"]
        said.append(f"{state} leads to {', '.join(others)}{' or ' if others else ''}{last}")
    return f"{'; '.join(said)}."


def image() -> str:
    """Return the line of Markdown that shows the drawing."""
    return f"![{in_words()}](states.svg)\n"


def svg() -> str:
    """Return the drawing."""
    height = _middle(_WAY[-1]) + _HEIGHT // 2 + _TOP
    last = [state for state in _WAY if State.ERROR in TRANSITIONS[state]][-1]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">',
        f"<title>The states of a delivery</title><desc>{in_words()}</desc>",
        f"<style>{_STYLE}</style>",
        f"<defs>{_arrow('arrow', '#55606c')}{_arrow('red', '#b3151f')}</defs>",
        f'<rect class="ground" width="{_WIDTH}" height="{height}"/>',
        *_moves(),
        *(_box(state, _LEFT, _middle(state) - _HEIGHT // 2) for state in _WAY),
        _box(State.ERROR, _ERROR, _middle(_WAY[0]) - _HEIGHT // 2, width=90, until=last),
        "</svg>",
    ]
    return "".join(f"{line}\n" for line in lines)


def _middle(state: State) -> int:
    return _TOP + _HEIGHT // 2 + _STEP * _WAY.index(state)


def _arrow(name: str, color: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8"'
        f' orient="auto"><path d="M0 0L8 4L0 8z" style="fill:{color};stroke:none"/></marker>'
    )


def _moves() -> Iterator[str]:
    for state in _WAY:
        for after in (other for other in State if other in TRANSITIONS[state]):
            yield _move(state, after)


def _move(state: State, after: State) -> str:
    """Return one arrow. Raises ValueError for a move that leads back, which is not drawn."""
    begin = _middle(state)
    if after is State.ERROR:
        return f'<path class="ends" d="M{_RIGHT} {begin - 8}H{_ERROR}"/>'
    passed = _WAY.index(after) - _WAY.index(state)
    if passed == 0:
        return f'<path d="M{_RIGHT} {begin + 4}c48 0 48 14 0 14"/>'
    if passed == 1:
        down = _STEP - _HEIGHT
        return f'<path d="M{_MIDDLE} {begin + _HEIGHT // 2}v{down}"/>'
    if passed < 0:
        raise ValueError(f"{state} leads back to {after}")
    around = 30 * passed
    return f'<path d="M{_LEFT} {begin}c-{around} 0 -{around} {_STEP * passed} 0 {_STEP * passed}"/>'


def _box(state: State, x: int, y: int, *, width: int = _BOX, until: State | None = None) -> str:
    height = _HEIGHT if until is None else _middle(until) + _HEIGHT // 2 - y
    work = "ended" if state.ended else state.work or "waits"
    kind = ' class="end"' if state.ended else ""
    middle, line = x + width // 2, y + height // 2
    return (
        f'<rect{kind} x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'
        f'<text x="{middle}" y="{line - 2}">{state}</text>'
        f'<text class="work" x="{middle}" y="{line + 14}">{work}</text>'
    )
