"""The domain and the use-cases know no kind of store or archive: another one touches neither.

What else says S3 outside of its kind is listed here with the reason: it is a contract's word, or
speaks of the deployment's own server, which is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from compose.embedded.stack import ROOT

FOLDERS = ("app/delivery", "app/usecases")
WORDS = re.compile(r"s3|bucket|boto|multipart|\bzip\b(?!\()", re.IGNORECASE)

# What is on a wire or in the log keeps its words.
ALLOWED = {
    ("app/delivery/targets.py", 'DEFAULT_TARGET = "regards-s3-minio"'): "requests name it",
    ("app/delivery/formats.py", 'FORMATS: tuple[str, ...] = ("zip", '): "requests name them",
    ("app/delivery/messages.py", "missing or blank: `regards-s3-minio`."): "in schemas of messages",
    ("app/delivery/messages.py", "`s3://bucket/correlationId/name.zip`"): "in schemas of messages",
    ("app/delivery/contents.py", '"<IQI16s32s"'): "sizes of fields",
    ("app/delivery/manifest_document.py", '"key":"c/P_v1.zip"'): "an example of a document",
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


NAMES = re.compile(r"(?<![HR])S3(?!\d)|s3(?!\d)")  # no HS384, no S311

CLIENT = ROOT / "web" / "client"
CONTRACT = "the contract's settings of the default target, which is of the first kind"
OUTSIDE = {
    "app/cli/__init__.py": "the help of the command",
    "app/delivery/messages.py": "in schemas of messages",
    "app/delivery/targets.py": "requests name the default target so",
    "app/run/doctor.py": "who borrows the deployment's own key: see app/tenants/registry.py",
    "app/run/renewals.py": "the deployment's own key and CA are read again",
    "app/run/wiring/kinds.py": "the list of kinds",
    "app/settings/__init__.py": "the list of sections",
    "app/settings/s3.py": "what an operator sets of the kind",
    "app/settings/tenants.py": CONTRACT,
    "app/settings/texts.py": "rules of buckets and regions, which the contract's settings keep",
    "app/settings/webhooks.py": "hosts are judged as there",
    "app/settings/transfers.py": "the least size of parts is that of the contract's store",
    "app/telemetry/metrics.py": "dashboards know the names and words of figures",
    "app/tenants/configure.py": CONTRACT,
    "app/tenants/definitions.py": CONTRACT,
    "app/tenants/deployment_key.py": CONTRACT,
    "app/tenants/registry.py": CONTRACT,
    "streams/operators/asyncapi.py": "in the AsyncAPI document",
    "web/api/settings.py": "in the OpenAPI document",
}


def test_a_kind_of_store_is_named_where_there_is_a_reason_for_it() -> None:
    named = {
        path.relative_to(ROOT).as_posix()
        for folder in ("app", "streams", "web")
        for path in (ROOT / folder).rglob("*.py")
        if CLIENT not in path.parents  # it is a program of its own
        if NAMES.search(path.read_text("utf-8"))
    }
    assert named == OUTSIDE.keys()
