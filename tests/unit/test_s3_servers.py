"""How S3 servers of other makes are chosen, and what is known of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.embedded import s3, s3_servers
from sinks.stores.s3.abilities import ABILITIES


@pytest.mark.parametrize("lacks", [s3.LACKS, *(make.lacks for make in s3_servers.MAKES.values())])
def test_what_a_server_cannot_is_something_that_is_tried(lacks: tuple[str, ...]) -> None:
    assert set(lacks) <= {ability.check for ability in ABILITIES if not ability.needed}


def test_a_server_that_is_not_known_is_refused_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAKES", "versitygw minioo")
    assert s3_servers.main() == 2
    told = capsys.readouterr().err
    assert "there is no minioo" in told
    assert "choose of versitygw, minio" in told


def test_without_go_nothing_is_played_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(s3_servers, "_HOME", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert s3_servers.main() == 0
    assert capsys.readouterr().out.startswith("skipped: ")
