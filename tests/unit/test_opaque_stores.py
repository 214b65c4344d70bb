"""The domain and the use-cases know no kind of store or archive: another one touches neither."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compose.embedded.stack import ROOT

FOLDERS = ("app/delivery", "app/usecases")
WORDS = re.compile(r"s3|bucket|boto|multipart|\bzip\b(?!\()", re.IGNORECASE)

# What is on a wire or in the log keeps its words.
ALLOWED = {
    ("app/delivery/targets.py", 'DEFAULT_TARGET = "regards-s3-minio"'): "requests name it",
    ("app/delivery/messages.py", "missing or blank: `regards-s3-minio`."): "in schemas of messages",
    ("app/delivery/messages.py", "`s3://bucket/correlationId/name.zip`"): "in schemas of messages",
    ("app/usecases/uploads.py", "bucket=upload.container,"): "a field of a log event",
}


def _lines() -> Iterator[tuple[str, str]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for line in path.read_text("utf-8").splitlines():
                if WORDS.search(line):
                    yield name, line.strip()


def test_no_word_of_a_kind_of_store_or_archive_is_in_the_domain_or_the_use_cases() -> None:
    assert [
        (name, line)
        for name, line in _lines()
        if not any(file == name and text in line for file, text in ALLOWED)
    ] == []


def test_every_exception_is_still_needed() -> None:
    found = list(_lines())
    assert [
        allowed
        for allowed in ALLOWED
        if not any(allowed[0] == n and allowed[1] in line for n, line in found)
    ] == []
