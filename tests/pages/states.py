"""The states of a delivery, with what the module says of each."""

from __future__ import annotations

import inspect
import re
from enum import StrEnum

from app.delivery.states import TRANSITIONS, State, Status, Work
from tests.pages.markdown import sentence, table


def transitions() -> str:
    """Return a table of the states, and of what may follow each."""
    meanings = _meanings(State)
    return table(
        ("state", "what it is", "what a worker does", "what may follow"),
        (
            (
                f"`{state}`",
                meanings[state],
                "it has ended" if state.ended else f"`{state.work}`" if state.work else "it waits",
                ", ".join(f"`{after}`" for after in State if after in TRANSITIONS[state]),
            )
            for state in State
        ),
    )


def work() -> str:
    """Return a table of what workers claim deliveries for."""
    return _table("work", Work)


def statuses() -> str:
    """Return a table of what clients are told."""
    return _table("status", Status)


def _table(head: str, words: type[StrEnum]) -> str:
    meanings = _meanings(words)
    return table((head, "meaning"), ((f"`{word}`", meanings[word]) for word in words))


def _meanings(words: type[StrEnum]) -> dict[str, str]:
    """Return what is written beside each value. Raises KeyError where a value has no word."""
    source = inspect.getsource(words)
    said = dict(re.findall(r'^ +\w+ = "(\w+)"  # (.+)$', source, re.MULTILINE))
    return {word: _capital(sentence(said[word])) for word in words}


def _capital(text: str) -> str:
    return text if text.startswith("rs-") else text[:1].upper() + text[1:]
