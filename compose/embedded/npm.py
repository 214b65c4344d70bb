"""Programs that tests run and npm brings: each once, for all processes, into `.tools`."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from compose.embedded.processes import StackError

_TOOLS = Path(__file__).resolve().parents[2] / ".tools"


@dataclass(frozen=True, kw_only=True)
class NpmPackage:
    """A version of a package, and the file of it that is run or imported."""

    name: str
    version: str
    main: Path  # below node_modules

    def missing(self) -> str | None:
        """Return what it lacks to run here, in a sentence; None if nothing."""
        programs = [name for name in ("node", "npm") if shutil.which(name) is None]
        if not programs:
            return None
        return f"{self.name} needs {' and '.join(programs)}, not found on the PATH"

    def fetched(self) -> Path:
        """Return its file, once it is there. Blocks. Raises StackError naming what is missing."""
        if sentence := self.missing():
            raise StackError(sentence)
        home = _TOOLS / f"{self.name}-{self.version}"
        file = home / "node_modules" / self.main
        _TOOLS.mkdir(parents=True, exist_ok=True)
        with (_TOOLS / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                shutil.rmtree(home, ignore_errors=True)
                self._install(home)
        return file

    def _install(self, home: Path) -> None:
        folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=_TOOLS))
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        command += ["--loglevel=error", "--prefix", str(folder), f"{self.name}@{self.version}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            raise StackError(f"npm did not bring {self.name}:\n{done.stderr[-2000:]}")
        folder.rename(home)  # whole, or not at all
