"""The command line: commands, options, defaults, exit codes."""

from __future__ import annotations

import contextlib
import io
from enum import Enum
from typing import Any
from unittest.mock import patch

import click

import app.cli
from app.errors import ConfigurationError, DeliveryError, NotReachableError

_SHOWN = ("secondary_opts", "required", "nargs", "multiple", "envvar", "is_flag", "count")


def commands() -> Any:
    """Each command with its arguments and options."""
    return _described(app.cli.cli, None)


def _described(command: click.Command, parent: click.Context | None) -> Any:
    context = click.Context(command, parent=parent, **command.context_settings)
    # Click keeps the option that it made first; a test may have called a command by itself.
    command._help_option = None  # noqa: SLF001 - click's
    said: dict[str, Any] = {
        "parameters": {
            max(parameter.opts, key=len): _parameter(parameter, context)
            for parameter in command.get_params(context)
        }
    }
    if isinstance(command, click.Group):
        names = {
            name: command.get_command(context, name) for name in command.list_commands(context)
        }
        said["commands"] = {
            name: _described(inner, context) for name, inner in names.items() if inner is not None
        }
    return said


def _parameter(parameter: click.Parameter, context: click.Context) -> Any:
    known = parameter.to_info_dict()
    return {
        "kind": parameter.param_type_name,
        "type": {k: _plain(v) for k, v in known["type"].items() if v and k != "param_type"},
        "default": _plain(parameter.get_default(context, call=False)),
        "opts": sorted(known["opts"]),  # those of help come in any order
        **{k: known[k] for k in _SHOWN if known.get(k)},
    }


def _plain(value: Any) -> Any:
    if callable(value):
        return "made"
    # Click marks with a value of its own that there is no default.
    return None if isinstance(value, Enum) else value


_ENDS: dict[str, BaseException] = {
    "a mistake in the call": click.UsageError("a mistake"),
    "the call can't be carried out": click.ClickException("refused"),
    "a mistake in a setting": ConfigurationError("a mistake"),
    "what it needs does not answer": NotReachableError("away"),
    "interrupted": KeyboardInterrupt(),
    "interrupted at a question": click.Abort(),
    "a fault of the program": RuntimeError("a fault, made by a test"),
}


def exit_codes() -> Any:
    """How a command ends that raises; any other error of the service has failed."""
    made = {name: _code(error) for name, error in _ENDS.items()}
    others = {_code(kind.__new__(kind)) for kind in _kinds(DeliveryError)}
    return made | {"what was asked for failed": sorted(others), "all went well": _code(None)}


def _kinds(error: type[DeliveryError]) -> list[type[DeliveryError]]:
    if issubclass(error, ConfigurationError):
        return []
    return [error, *(kind for subclass in error.__subclasses__() for kind in _kinds(subclass))]


def _code(error: BaseException | None) -> Any:
    quiet = io.StringIO()
    with (
        patch.object(app.cli.cli, "main", side_effect=error),
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
    ):
        try:
            app.cli.main()
        except SystemExit as ended:
            return ended.code
    return 0
