"""What the service is built of: its licences, its list (SBOM), and how flaws of it are told."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from compose.audit import FINE, FOUND, NOT_DONE, judge

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "requirements" / "runtime.txt"
LOCKED = re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", RUNTIME.read_text(), re.MULTILINE)

# Of licences that ask for nothing but to be told, and for no source of what is built on them.
FREE = {
    "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0", "Unlicense",
}  # fmt: skip
# Others, each looked at by a person: which of its licences is taken, and why it is no trouble.
CHOSEN = {
    "asyncssh": "EPL-2.0",  # or the GPL, which is not taken; used as it is, and not changed
    "certifi": "MPL-2.0",  # of its own files alone: the list of CAs
    "venusian": "BSD-derived (Repoze)",  # as BSD, and names may not be used
}
# How packages that give no SPDX expression spell theirs.
SPELT = {
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
}


def licence_of(name: str) -> str:
    """Return what an installed package says of its licence, as SPDX as far as that is known."""
    told: dict[str, Any] = dict(importlib.metadata.metadata(name).json)
    if expression := told.get("license_expression"):
        return str(expression)
    classified = [
        classifier.rpartition(" :: ")[2]
        for classifier in told.get("classifier", [])
        if classifier.startswith("License :: ") and not classifier.endswith("OSI Approved")
    ]
    written = str(told.get("license", "")).strip()
    if "\n" in written or not written or written == "Dual License":
        return " OR ".join(SPELT.get(licence, licence) for licence in classified)
    return SPELT.get(written, written)


def is_free(expression: str) -> bool:
    """Whether an SPDX expression can be met with licences of FREE alone; no brackets are known."""
    return any(
        all(licence.strip() in FREE for licence in choice.split(" AND "))
        for choice in expression.split(" OR ")
    )


@pytest.mark.parametrize("name", [name for name, _ in LOCKED])
def test_a_dependency_has_a_licence_that_ours_gets_along_with(name: str) -> None:
    try:
        licence = licence_of(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not for this system, or this Python")
    if name in CHOSEN:
        assert CHOSEN[name] in licence
        return
    assert is_free(licence), f"{name} is under {licence!r}: look at it, and say so in CHOSEN"


@pytest.mark.parametrize("licence", ["AGPL-3.0-only", "GPL-2.0-or-later", "MIT AND LGPL-3.0", ""])
def test_other_licences_are_seen(licence: str) -> None:
    assert not is_free(licence)


def test_the_list_is_of_every_locked_dependency_and_the_same_each_time(tmp_path: Path) -> None:
    if not (ROOT / ".tools" / "checks" / ".ready").exists():
        pytest.skip("cyclonedx-py is not here; `make sbom` installs it")
    made = []
    for name in ("first", "second"):
        to = tmp_path / name
        subprocess.run(["make", "--no-print-directory", "sbom", f"SBOM={to}"], cwd=ROOT, check=True)
        made.append(to.read_bytes())
    assert made[0] == made[1]
    sbom = json.loads(made[0])
    assert sbom["bomFormat"] == "CycloneDX"
    assert sbom["metadata"]["component"]["name"] == "rs-delivery"
    assert sorted((part["name"], part["version"]) for part in sbom["components"]) == sorted(LOCKED)
    for part in sbom["components"]:
        (distribution,) = part["externalReferences"]
        assert {digest["alg"] for digest in distribution["hashes"]} == {"SHA-256"}


def locked(name: str) -> dict[str, str]:
    """Return the versions that a list pins, each with a hash."""
    text = (ROOT / "requirements" / name).read_text()
    entries = re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)(.*(?:\n    .*)*)", text, re.MULTILINE)
    assert all("--hash=sha256:" in rest for _, _, rest in entries)
    return {package: version for package, version, _ in entries}


def test_what_builds_the_package_is_locked_as_it_is_in_development() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    required = [re.split(r"[^a-z0-9._-]", need)[0] for need in project["build-system"]["requires"]]
    build, dev = locked("build.txt"), locked("dev.txt")
    assert set(required) <= set(build)
    assert build.items() <= dev.items()


@pytest.mark.parametrize("place", ["Dockerfile", "docs/installing.md"])
def test_nothing_is_installed_that_is_not_held_against_its_hash(place: str) -> None:
    """By an operator, or in the image: the package itself is built with what is there by then."""
    text = (ROOT / place).read_text().replace("\\\n", " ")
    commands = re.findall(r"/pip (?:install|wheel) [^&|#\n]*", text)
    assert any("-r requirements/build.txt" in command for command in commands)
    for command in commands:
        of_a_list = "--require-hashes" in command and " -r " in command
        of_what_is_here = "--no-deps" in command and (
            "--no-build-isolation" in command or "--no-index" in command
        )
        assert of_a_list or of_what_is_here, command


def report(*dependencies: dict[str, object]) -> str:
    return json.dumps(
        {"dependencies": [{"name": "a", "version": "1"} | found for found in dependencies]}
    )


def test_a_known_flaw_is_told_with_what_mends_it() -> None:
    flaw = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}
    code, told = judge(report({"vulns": []}, {"vulns": [flaw]}, {"skip_reason": "unknown"}))
    assert code == FOUND
    assert "a 1: PYSEC-1 (CVE-1); mended in 2" in told


def test_no_known_flaw_is_told_where_all_were_looked_up() -> None:
    assert judge(report({"vulns": []})) == (FINE, "audit: no known flaw in 1 dependencies")


@pytest.mark.parametrize(
    "asked",
    [
        (report({"skip_reason": "not found"}, {"vulns": []}), "No known vulnerabilities found"),
        (report(), ""),
        ("", "ConnectionError: no route"),
        ("<html>", ""),
    ],
)
def test_what_was_not_looked_up_is_never_told_as_well(asked: tuple[str, str]) -> None:
    """pip-audit says "No known vulnerabilities found" of what an index does not tell."""
    code, told = judge(*asked)
    assert code == NOT_DONE
    assert "NOT DONE" in told
