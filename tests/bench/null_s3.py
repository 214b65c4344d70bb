"""An S3 server that forgets everything at once: what a transfer sends to costs next to nothing.

It speaks as much of S3 as uploads and puts need, to AWS's own client libraries. Its ETag of a part
is the Content-MD5 that came with it, so that it need not compute any; the sizes are real. With
`--keep FOLDER` the parts are written there instead, to look at them; with `--put-latency MS` an
object that is put at once takes so long.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import itertools
import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.bench.null_http import Connection, serve

_NO_MD5 = "0" * 32


@dataclass
class Object:
    """What is known of an upload, and later of the object."""

    sizes: dict[int, int] = field(default_factory=dict)
    md5s: dict[int, str] = field(default_factory=dict)
    parts: dict[int, bytes] = field(default_factory=dict)
    whole: bool = False  # it was put at once

    @property
    def size(self) -> int:
        return sum(self.sizes.values())

    @property
    def etag(self) -> str:
        if self.whole:
            return self.md5s[1]
        joined = b"".join(bytes.fromhex(md5) for _, md5 in sorted(self.md5s.items()))
        return f"{hashlib.md5(joined).hexdigest()}-{len(self.md5s)}"


class Store:
    """All uploads and objects, and where objects are kept (if at all)."""

    def __init__(self, folder: Path | None, latency: float) -> None:
        self.folder = folder
        self.latency = latency  # seconds
        self.objects: dict[str, Object] = {}  # by path
        self.uploads: defaultdict[str, Object] = defaultdict(Object)  # by id
        self.numbers = itertools.count(1)

    def complete(self, path: str, upload_id: str) -> Object:
        found = self.objects[path] = self.uploads.pop(upload_id)
        if self.folder is not None:
            with (self.folder / "object").open("wb") as file:
                for _, part in sorted(found.parts.items()):
                    file.write(part)
            found.parts.clear()
        return found


class S3(Connection):
    """One client."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def keeps(self) -> int:
        return self.size if self._store.folder is not None or self.method == "POST" else 0

    def answer(self) -> None:
        upload_id = self.query.get("uploadId", [""])[0]
        there = self._store.objects.get(self.path)
        match self.method:
            case "POST" if "uploads" in self.query:
                number = next(self._store.numbers)
                self.say(_xml("InitiateMultipartUploadResult", UploadId=number))
            case "PUT":
                self._put(upload_id)
            case "POST" if there is not None and "if-none-match" in self.headers:
                self.say(_xml("Error", Code="PreconditionFailed"), status="412 Precondition Failed")
            case "POST":
                done = self._store.complete(self.path, upload_id)
                assert len(re.findall(rb"<PartNumber>", self.body)) == len(done.sizes)
                self.say(_xml("CompleteMultipartUploadResult", ETag=f'"{done.etag}"'))
            case "GET" if upload_id in self._store.uploads:
                self._list(self._store.uploads[upload_id])
            case "HEAD" if there is None and self.path.count("/") > 1:
                self.say(status="404 Not Found")
            case "HEAD" if there is not None:
                self.say("", {"ETag": f'"{there.etag}"'}, length=there.size)
            case _:
                self.say()

    def _list(self, upload: Object) -> None:
        after = int(self.query.get("part-number-marker", ["0"])[0])
        most = int(self.query.get("max-parts", ["1000"])[0])
        numbers = sorted(number for number in upload.sizes if number > after)
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{upload.md5s[number]}&quot;</ETag>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<Size>{upload.sizes[number]}</Size></Part>"
            for number in numbers[:most]
        )
        truncated = str(len(numbers) > most).lower()
        self.say(_xml("ListPartsResult", IsTruncated=truncated).replace("</L", f"{parts}</L"))

    def _put(self, upload_id: str) -> None:
        number = int(self.query.get("partNumber", ["1"])[0])
        found = self._store.uploads[upload_id] if upload_id else Object(whole=True)
        md5 = base64.b64decode(self.headers.get("content-md5", "")).hex() or _NO_MD5
        found.sizes[number] = int(self.headers.get("x-amz-decoded-content-length", self.size))
        found.md5s[number] = md5
        if upload_id:
            if self._store.folder is not None:
                found.parts[number] = bytes(self.body)
            self.say("", {"ETag": f'"{md5}"'})
        else:
            self._store.objects[self.path] = found
            said = partial(self.say, "", {"ETag": f'"{md5}"'})
            asyncio.get_running_loop().call_later(self._store.latency, said)


def _xml(name: str, **fields: object) -> str:
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in fields.items())
    return f"<{name}>{inner}</{name}>"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--put-latency", type=float, default=0)
    asked = parser.parse_args()
    store = Store(asked.keep, asked.put_latency / 1000)
    asyncio.run(serve(lambda: S3(store)))


if __name__ == "__main__":
    main()
