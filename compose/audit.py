"""`make audit`: whether flaws of the locked dependencies are known, as pip-audit finds them.

    python -m compose.audit PIP-AUDIT REQUIREMENTS

pip-audit calls what it could not look up "skipped", and ends well with all of it skipped: that is
told here as what it is. It fails nothing, unless AUDIT=required, as it says nothing of the program.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

FINE, FOUND, NOT_DONE = 0, 1, 75


def judge(report: str, said: str = "") -> tuple[int, str]:
    """Return what a report (JSON) of pip-audit means, and how it is told; `said` is its stderr."""
    try:
        dependencies: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = said.strip().splitlines() or ["pip-audit told nothing"]
        return NOT_DONE, f"audit: NOT DONE, nothing was looked up: {lines[-1]}"
    flaws = [
        f"  {found['name']} {found['version']}: {flaw['id']}"
        f" ({', '.join(flaw.get('aliases', [])) or 'no other name'});"
        f" mended in {', '.join(flaw.get('fix_versions', [])) or 'no version yet'}"
        for found in dependencies
        for flaw in found.get("vulns", [])
    ]
    if flaws:
        return FOUND, "\n".join(["audit: known flaws; `make lock` takes newer versions", *flaws])
    skipped = [found["name"] for found in dependencies if "skip_reason" in found]
    if skipped or not dependencies:
        return NOT_DONE, (
            f"audit: NOT DONE, {len(skipped)} of {len(dependencies)} dependencies could not be "
            f"looked up ({', '.join(skipped[:3])}…): the index that was asked tells no flaws"
        )
    return FINE, f"audit: no known flaw in {len(dependencies)} dependencies"


def main(program: str, requirements: str) -> int:
    """Look, tell what was found, and return the exit code."""
    done = subprocess.run(
        [program, "--disable-pip", "--progress-spinner", "off", "-f", "json", "-r", requirements],
        capture_output=True,
        text=True,
        check=False,
    )
    code, told = judge(done.stdout, done.stderr)
    print(told)
    return 0 if code == NOT_DONE and os.environ.get("AUDIT") != "required" else code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
