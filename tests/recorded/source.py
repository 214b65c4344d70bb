"""What the source says and nothing tells at run time: events of the log, names of spans."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

_LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
_LOGGERS = ("log", "logger", "_log")
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Scope = _Function | None
_Calls = list[tuple[ast.Call, _Scope]]


def _calls(tree: ast.AST, scope: _Scope = None) -> Iterator[tuple[ast.Call, _Scope]]:
    """Iterate over the calls below, each with the function that it is in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            yield node, scope
        yield from _calls(node, node if isinstance(node, _Function) else scope)


def _name_of(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def _is_logger(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return _name_of(value.func) in ("get_logger", "bind")
    return isinstance(value, ast.Name) and value.id in _LOGGERS


class Source:
    """The modules of some folders."""

    def __init__(self, folders: Iterable[Path]) -> None:
        paths = (path for folder in folders for path in sorted(folder.rglob("*.py")))
        self._calls = [list(_calls(ast.parse(path.read_text(), str(path)))) for path in paths]

    def log_events(self) -> dict[str, list[str]]:
        """Return each event that is logged, with its levels."""
        found: dict[str, set[str]] = defaultdict(set)
        for event, level, _call in self._logged():
            found[event].add(level)
        return {event: sorted(levels) for event, levels in found.items()}

    def log_keys(self) -> dict[str, list[str]]:
        """Return each event that is logged, with the keys that it is given where it is."""
        found: dict[str, set[str]] = defaultdict(set)
        for event, _level, call in self._logged():
            found[event].update(keyword.arg for keyword in call.keywords if keyword.arg)
        return {event: sorted(keys) for event, keys in found.items()}

    def _logged(self) -> Iterator[tuple[str, str, ast.Call]]:
        """Iterate over what is logged: the event, its level, and where it is."""
        for module in self._calls:
            for call, scope in module:
                called = call.func
                if (
                    isinstance(called, ast.Attribute)
                    and called.attr in _LEVELS
                    and _is_logger(called.value)
                ):
                    for event in self._texts(call.args[0], scope, module):
                        yield event, called.attr, call

    def spans(self) -> list[str]:
        """Return the name of each span, with {} for what only a run tells."""
        found: set[str] = set()
        for module in self._calls:
            for call, scope in module:
                if _name_of(call.func) == "span" and call.args:
                    found.update(self._texts(call.args[0], scope, module))
        return sorted(found)

    def _texts(
        self, value: ast.expr, scope: _Scope, module: _Calls, seen: frozenset[str] = frozenset()
    ) -> Iterator[str]:
        """Iterate over what an argument may be: chosen, put together, or given to the function."""
        match value:
            case ast.Constant(value=str(text)):
                yield text
            case ast.JoinedStr(values=parts):
                possible = [list(self._texts(part, scope, module, seen)) for part in parts]
                yield from ("".join(chosen) for chosen in product(*possible))
            case ast.FormattedValue(value=inner):
                yield from self._texts(inner, scope, module, seen)
            case ast.IfExp(body=one, orelse=other):
                yield from self._texts(one, scope, module, seen)
                yield from self._texts(other, scope, module, seen)
            case ast.Name(id=name) if scope is not None and scope.name not in seen:
                local = list(self._given(name, scope, module, seen | {scope.name}))
                yield from local or ["{}"]
            case _:
                yield "{}"

    def _given(
        self, name: str, scope: _Function, module: _Calls, seen: frozenset[str]
    ) -> Iterator[str]:
        """Iterate over the values of a local name: assigned to it, or given by the callers."""
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                yield from self._texts(node.value, scope, module, seen - {scope.name})
        parameters = [parameter.arg for parameter in scope.args.args if parameter.arg != "self"]
        if name not in parameters:
            return
        private = scope.name.startswith("_")
        for calls in [module] if private else self._calls:
            for call, caller in calls:
                # A method is looked for where it is defined: others may have one of its name.
                if _name_of(call.func) == scope.name and (
                    isinstance(call.func, ast.Name) or calls is module
                ):
                    given = dict(zip(parameters, call.args, strict=False))
                    given |= {
                        keyword.arg: keyword.value for keyword in call.keywords if keyword.arg
                    }
                    if name in given:
                        yield from self._texts(given[name], caller, calls, seen)
