"""What `docs/models/delivery.pml` says holds in all of its states, and its defects are found.

`spin` makes a C program of the model, which visits every state that any order of steps leads to.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from compose.embedded.stack import ROOT

MODEL = ROOT / "docs" / "models" / "delivery.pml"
MISSING = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: apt-get install {' '.join(MISSING)}"
)

OLD_STORE = ("NO_CONDITIONS", "SAME_BYTES")  # one that ignores conditions
TOLD = "state!="  # told, then changed or vanished
NOT_THERE = "object==seen"  # told, and not there
UNNAMED = "named[q]==((first"  # there, made of other parts than were named
TOLD_FAILED = "state!=1"  # there, after its client was told that there is none
LATE_OBJECT = "result"  # at rest there is one of a delivery that failed
LEFT_OPEN = "up[i]=="  # at rest there is an upload


def verify(
    folder: Path,
    *switches: str,
    compiled: tuple[str, ...] = ("-O1", "-DSAFETY"),
    options: str = "-n",
) -> str:
    """Visit every state of the model with these switches; return what was found.

    It stops at the first that is wrong, and fails where states were left out.
    """

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("spin", "-a", *(f"-D{switch}" for switch in switches), str(MODEL))
    run("gcc", "-w", "-DCOLLAPSE", "-DVECTORSZ=2048", *compiled, "-o", "pan", "pan.c")
    found = run("./pan", "-m100000", options)
    assert "max search depth too small" not in found
    assert "out of memory" not in found
    return found


def errors(found: str) -> int:
    """Return how many errors were found: none, or the first."""
    (count,) = re.findall(r"errors: (\d+)", found)
    return int(count)


@pytest.mark.parametrize(
    "switches",
    [OLD_STORE, ("ATTEMPTS=3", "STRICT"), ("ATTEMPTS=3", "STRICT", "NO_EXPIRY")],
    ids=" ".join,
)
def test_every_state_keeps_what_the_protocol_promises(
    tmp_path: Path, switches: tuple[str, ...]
) -> None:
    assert errors(verify(tmp_path, *switches)) == 0


def test_two_attempts_keep_it_at_worse_a_store_than_promised_and_every_step_is_taken(
    tmp_path: Path,
) -> None:
    found = verify(tmp_path, options="-v")
    assert errors(found) == 0
    skipped = re.findall(r"delivery\.pml:(\d+), state \d+, \"(.*)\"", found)
    assert {step for _, step in skipped} == {"-end-"}


def test_no_run_goes_on_for_ever(tmp_path: Path) -> None:
    """So a delivery ends by its own strength, however unfairly steps are chosen."""
    switches = ("ATTEMPTS=3", "STRICT", "NO_EXPIRY")
    found = verify(tmp_path, *switches, compiled=("-O1", "-DNP"), options="-l")
    assert errors(found) == 0


@pytest.mark.parametrize(
    ("switches", "wrong"),
    [
        (("NO_ATTEMPT",), NOT_THERE),
        (("NO_FENCE",), TOLD),
        (("NO_QUESTION",), LATE_OBJECT),
        (("ONE_LOOK",), LATE_OBJECT),
        (("LATE_CLOCK",), LATE_OBJECT),
        (("BLIND_START",), LEFT_OPEN),
        (("KEPT_UPLOAD",), LEFT_OPEN),
        (("BEGIN_AGAIN",), LEFT_OPEN),
        (("NO_NAMES",), UNNAMED),
        (("STRICT", "UNHEEDED"), TOLD_FAILED),
        (("TRUSTED",), NOT_THERE),
        ((*OLD_STORE, "OVERLOOKED"), TOLD),
        ((*OLD_STORE, "NO_LOCK"), TOLD),
    ],
    ids=str,
)
def test_a_defect_that_is_put_back_is_found(
    tmp_path: Path, switches: tuple[str, ...], wrong: str
) -> None:
    assert all(f"def {switch}" in MODEL.read_text("utf-8") for switch in switches)
    found = verify(tmp_path, *switches, compiled=("-DSAFETY",))  # found soon: not worth optimizing
    assert errors(found) == 1
    assert wrong in re.findall(r"assertion violated (.*) \(at depth", found)[0]


@pytest.mark.parametrize("switches", [("ATTEMPTS=3",), ("NO_CONDITIONS",)], ids=" ".join)
def test_the_limits_that_the_model_names_are_real(
    tmp_path: Path, switches: tuple[str, ...]
) -> None:
    assert errors(verify(tmp_path, *switches)) == 1
