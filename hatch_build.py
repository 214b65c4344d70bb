"""Compiles `sinks/_md5pair.c` where there is a C compiler; without one, hashlib takes its place."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE = Path("sinks/_md5pair.c")
_ABI = "cp311-abi3"  # the limited API of Python 3.11: one build for it and all later ones


class Md5PairHook(BuildHookInterface):
    """Adds the compiled module to the wheel, or leaves it out."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile next to the source, which is where an editable install looks."""
        built = _SOURCE.with_suffix(".abi3.so")
        compiler = (sysconfig.get_config_var("CC") or "cc").split()
        flags = ["-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wno-cast-function-type"]
        include = f"-I{sysconfig.get_path('include')}"
        command = [*compiler, *flags, include, str(_SOURCE), "-o", str(built)]
        root = Path(self.root)
        (root / built).unlink(missing_ok=True)
        try:
            done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
        except FileNotFoundError as error:
            self._without(str(error))
            return
        if done.returncode:
            self._without(done.stderr)
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"{_ABI}-{platform}"
        build_data["pure_python"] = False
        build_data["force_include"][str(root / built)] = str(built)

    def _without(self, why: str) -> None:
        self.app.display_warning(
            f"{_SOURCE} could not be compiled, so archives are digested in two passes instead of "
            f"one; a C compiler and Python's headers make it faster. {why.strip()}"
        )
