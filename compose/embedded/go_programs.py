"""Programs that are built from Go modules: each once, then kept."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from compose.embedded.processes import StackError


@dataclass(frozen=True, kw_only=True)
class GoProgram:
    """A program, and of what it is built."""

    name: str
    version: str  # as people know it
    module: str
    at: str  # the module's version
    digest: str  # of the module, as Go has it in a go.sum
    package: str = ""  # within the module
    newer: tuple[str, ...] = ()  # modules that today's Go needs newer than this program asks for

    def program(self, home: Path) -> Path:
        """Where it is kept."""
        return home / f"{self.name}-{self.version}"

    def built(self, home: Path) -> Path:
        """Return the program; Go builds it once, for all processes. Raises StackError."""
        program = self.program(home)
        home.mkdir(parents=True, exist_ok=True)
        with (home / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not program.exists():
                print(f"building {self.name} {self.version}", file=sys.stderr, flush=True)
                self._build(program)
        return program

    def _build(self, program: Path) -> None:
        package = f"{self.module}/{self.package}".rstrip("/")
        with tempfile.TemporaryDirectory(dir=program.parent) as name:
            folder = Path(name)
            self._go(folder, "mod", "init", "server")
            told = self._go(folder, "mod", "download", "-json", f"{self.module}@{self.at}")
            digest: str = json.loads(told)["Sum"]
            if digest != self.digest:
                raise StackError(f"{self.module} {self.at} is {digest}; expected {self.digest}")
            self._go(folder, "get", f"{package}@{self.at}", *self.newer)
            self._go(folder, "build", "-p", "1", "-o", "program", package)
            (folder / "program").rename(program)  # whole, or not at all

    def _go(self, folder: Path, *arguments: str) -> str:
        command = ["go", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout)[-2000:]
            raise StackError(f"Go did not build {self.name} {self.version}:\n{said}")
        return done.stdout
