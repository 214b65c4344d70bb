"""A shell completes ids: of the service where it answers at once, else those of the last time."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from rs_delivery_client.cli import cli, completion
from rs_delivery_client.cli.completion import Entry, known
from rs_delivery_client.cli.place import Place

PLACE = Place(url="http://127.0.0.1:1", token="a")
TOLD = [("d-1", "READY"), ("e-1", "DONE mosaic")]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ids are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@contextlib.contextmanager
def answering(body: object) -> Iterator[str]:
    """Answer one request with this, on a port of this machine; give its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        thread.join()


def answers(_place: Place, _begin: str) -> list[Entry]:
    return TOLD


def test_ids_of_a_service_that_answers_are_those_that_begin_so() -> None:
    assert known(lambda: PLACE, "", ask=answers, patience=60) == TOLD
    assert known(lambda: PLACE, "e", ask=answers, patience=60) == TOLD[1:]


def test_a_service_that_is_silent_or_away_gives_those_of_the_last_time(cache: Path) -> None:
    silent = threading.Event()

    def waits(_place: Place, _begin: str) -> list[Entry]:
        silent.wait()
        return []

    assert known(lambda: PLACE, "") == []
    assert known(lambda: PLACE, "", ask=answers, patience=60) == TOLD
    assert known(lambda: PLACE, "d", ask=waits, patience=0) == TOLD[:1]
    silent.set()
    assert known(lambda: PLACE, "d", patience=60) == TOLD[:1]  # nothing listens there
    assert known(lambda: Place(url=PLACE.url, token="another"), "d") == []
    (file,) = (cache / "rs-delivery").iterdir()
    assert file.stat().st_mode & 0o077 == 0


def test_a_keyring_that_is_slow_is_waited_for_no_longer_than_the_service() -> None:
    asked = threading.Event()

    def slow() -> Place:
        asked.wait()
        return PLACE

    assert known(slow, "", ask=answers, patience=0) == []
    asked.set()
    assert known(slow, "", ask=answers, patience=60) == TOLD


def offered(*words: str) -> list[str]:
    """Return what a shell offers for the last of these words."""
    shell = ShellComplete(cli, {}, "rs-delivery", "_RS_DELIVERY_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


def test_no_id_that_a_shell_would_run_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = ["$(touch x)", "`touch x`", "a;b", "a b", "*", "~root", "-f", "a&b", "a>b", "'", "é"]
    names = [*ran, "d-1", "user@example.org:1/2"]
    monkeypatch.setattr(completion, "_asked", lambda *_: [(name, "READY") for name in names])
    monkeypatch.setenv("DELIVERY_URL", PLACE.url)
    monkeypatch.setattr(completion, "PATIENCE", 60)
    assert offered("show", "") == ["d-1", "user@example.org:1/2"]


def test_nothing_is_offered_nor_said_where_no_service_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DELIVERY_URL", raising=False)
    monkeypatch.setenv("DELIVERY_PROFILES", str(tmp_path / "none.json"))
    assert offered("show", "d") == []
    (tmp_path / "none.json").write_text("damaged")
    assert offered("show", "d") == []


@pytest.mark.parametrize(
    ("words", "answer", "names"),
    [
        (("worker", "drain"), {"content": [{"id": "w-1", "alive": True}]}, ["w-1"]),
        (("target", "pause"), {"content": [{"name": "archive"}, {"name": "$(x)"}]}, ["archive"]),
        (("letter", "show"), {"content": [{"id": "amqp:requests:0"}]}, ["amqp:requests:0"]),
        (("setting", "get"), [{"content": {"name": "s3_server"}}], ["s3_server"]),
    ],
)
def test_what_operators_name_is_completed_as_well(
    words: tuple[str, ...], answer: object, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(answer) as url:
        monkeypatch.setenv("DELIVERY_URL", url)
        monkeypatch.setattr(completion, "PATIENCE", 60)
        assert offered(*words, "") == names
