"""Compiles `sinks/_*.c` where there is a C compiler; without one, hashlib takes their place.

And puts the client beside the service's packages: its folder is a distribution of its own.
"""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCES = (Path("sinks/_md5pair.c"), Path("sinks/_sha256.c"))
_CLIENT = Path("web/client/rs_delivery_client")  # the commands `verify` and `download` are its own
_ABI = "cp311-abi3"  # the limited API of Python 3.11: one build for it and all later ones


class BuildHook(BuildHookInterface):
    """Adds the client and the compiled modules to the wheel, or leaves the latter out."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile next to the sources, which is where an editable install looks."""
        root = Path(self.root)
        if version != "editable":  # which finds the client where it is: `dev-mode-dirs`
            build_data["force_include"][str(root / _CLIENT)] = _CLIENT.name
        for source in _SOURCES:
            built = self._compiled(source)
            if built is None:
                continue
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"{_ABI}-{platform}"
            build_data["pure_python"] = False
            build_data["force_include"][str(root / built)] = str(built)

    def _compiled(self, source: Path) -> Path | None:
        built = source.with_suffix(".abi3.so")
        compiler = (sysconfig.get_config_var("CC") or "cc").split()
        flags = ["-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wno-cast-function-type"]
        include = f"-I{sysconfig.get_path('include')}"
        command = [*compiler, *flags, include, str(source), "-o", str(built)]
        (Path(self.root) / built).unlink(missing_ok=True)
        try:
            done = subprocess.run(  # noqa: S603
                command, cwd=self.root, capture_output=True, text=True, check=False
            )
        except FileNotFoundError as error:
            self._without(source, str(error))
            return None
        if done.returncode:
            self._without(source, done.stderr)
            return None
        return built

    def _without(self, source: Path, why: str) -> None:
        self.app.display_warning(
            f"{source} could not be compiled, so hashlib takes its place: archives are digested "
            "more slowly, and not all that one worker began can be gone on with by another one; a "
            f"C compiler and Python's headers make it better. {why.strip()}"
        )
