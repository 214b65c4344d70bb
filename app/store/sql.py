"""Loads the statements that lie beside a module: `leases.sql` beside `leases.py`.

A file has blocks that begin with `-- name: x`, so that SQL is read, linted and explained as SQL.
What several of them have in common is a block that begins with `-- fragment: y`, and stands where
they say `{y}`. What several files have in common is one of `fragments/`, which all may say.
Arguments have names (`:owner`), which become PostgreSQL's `$1`, `$2`, … when the module is
imported: asyncpg is given the same text at every call, and prepares it once a connection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any, TypeAlias

from app.delivery.states import State

_NAME = re.compile(r"^-- (name|fragment): (\w+)\n", re.MULTILINE)
_SENTENCE = re.compile(r"\A(?:--[^\n]*\n)*")
_Argument: TypeAlias = str | int | Sequence[str] | Sequence[int]

_PLACE = re.compile(r"\$(\d+)")
_WORD = re.compile(r"\{(\w+)\}")
# What may hold a colon comes first, and stays as it is. A slice whose bounds are columns (`a[i:j]`)
# has no blank before its colon, an argument does.
_ARGUMENT = re.compile(
    r"""
      --[^\n]* | /\*.*?\*/                          # comments
    | \b[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*'   # texts
    | "(?:[^"]|"")*"                                # names
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$               # texts between dollars
    | ::                                            # casts
    | (?<![\w\])]):(?P<argument>[a-z]\w*)
    | (?P<number>\$\d+)
    """,
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """A statement; called with its arguments, it gives what asyncpg's methods take.

    `await connection.fetchrow(*SQL["renew"](id=…, attempt=…, owner=…, ttl=…))`
    """

    name: str
    text: str  # with $1, $2, …
    parameters: tuple[str, ...]  # the first is $1

    def __call__(self, /, **arguments: Any) -> tuple[Any, ...]:
        """Return the text and the arguments in their order.

        Raises TypeError when one is missing, or one too many.
        """
        return (self.text, *self._ordered(arguments))

    def arguments(self, /, **arguments: Any) -> tuple[Any, ...]:
        """Return the arguments alone, in their order: a row for `executemany`."""
        return self._ordered(arguments)

    def _ordered(self, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
        try:
            ordered = tuple([arguments[name] for name in self.parameters])
        except KeyError:
            raise self._misuse(arguments) from None
        if len(arguments) != len(ordered):
            raise self._misuse(arguments)
        return ordered

    def _misuse(self, arguments: Mapping[str, Any]) -> TypeError:
        missing = [name for name in self.parameters if name not in arguments]
        unknown = [name for name in arguments if name not in self.parameters]
        flaws = [f"lacks {', '.join(missing)}"] if missing else []
        flaws += [f"knows no {', '.join(unknown)}"] if unknown else []
        return TypeError(f"statement {self.name} {' and '.join(flaws)}")


def in_full(text: str, *arguments: _Argument) -> str:
    """Return a statement with its arguments in its text, as what is sent with others must be.

    Texts are told in hexadecimal digits: whatever they are, they can't end where they stand.
    """
    return _PLACE.sub(lambda match: _literal(arguments[int(match[1]) - 1]), text)


def _literal(argument: _Argument) -> str:
    match argument:
        case str():
            return f"convert_from(decode('{argument.encode().hex()}', 'hex'), 'UTF8')"
        case int():
            return f"{argument:d}"
        case _:
            return f"ARRAY[{','.join(map(_literal, argument))}]"


def parse(text: str, **words: str) -> dict[str, Statement]:
    """Split a file into its statements, with fragments and words put in for `{word}`.

    A fragment may have words, too, and fragments that come before it. Raises ValueError on a name
    that is there twice, on a word that stands for nothing, on a fragment that no block has, and on
    an argument that has a number in place of a name.
    """
    parts = _NAME.split(text)
    kinds, names, blocks = parts[1::3], parts[2::3], parts[3::3]
    if len({*names, *words}) != len(names) + len(words):
        raise ValueError(f"a block is named twice: {sorted([*names, *words])}")
    known = dict(words)
    used: set[str] = set()

    def put_in(match: re.Match[str]) -> str:
        word = match[1]
        if word not in known:
            raise ValueError(f"statements have a word that stands for nothing: {word}")
        used.add(word)
        return known[word]

    statements: dict[str, Statement] = {}
    for kind, name, block in zip(kinds, names, blocks, strict=True):
        whole = _WORD.sub(put_in, block).strip()
        if kind == "fragment":
            known[name] = _SENTENCE.sub("", whole)
        else:
            statements[name] = _statement(name, whole)
    idle = known.keys() - words.keys() - used
    if idle:
        raise ValueError(f"no statement has these fragments: {sorted(idle)}")
    return statements


def _statement(name: str, text: str) -> Statement:
    parameters: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        if match["number"]:
            raise ValueError(f"statement {name} has {match['number']}, which needs a name")
        argument = match["argument"]
        if argument is None:
            return match[0]
        if argument not in parameters:
            parameters.append(argument)
        return f"${parameters.index(argument) + 1}"

    text = _ARGUMENT.sub(numbered, text)
    return Statement(name=name, text=text, parameters=tuple(parameters))


# Literals, not arguments: PostgreSQL uses a partial index (`WHERE state NOT IN ('DONE', …)`) only
# for a query that says the same.
_ENDED = ", ".join(f"'{state}'" for state in State if state.ended)


def _shared() -> Mapping[str, str]:
    """Return the fragments that every file may have."""
    found = {}
    for file in files("app.store").joinpath("fragments").iterdir():
        _, *parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, block in zip(parts[1::3], parts[2::3], strict=True):
            found[name] = _SENTENCE.sub("", block.strip())
    return MappingProxyType(found)


_SHARED = _shared()


def load(module: str) -> Mapping[str, Statement]:
    """Return the statements that lie beside a module, which gives its `__name__`."""
    package, _, name = module.rpartition(".")
    file = files(package).joinpath(f"{name}.sql")
    return MappingProxyType(parse(file.read_text(encoding="utf-8"), ended=_ENDED, **_SHARED))
