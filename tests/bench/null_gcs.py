"""Google Cloud Storage that forgets everything at once, as `null_s3` is S3.

It has names, generations, sizes and metadata of objects; of their bytes nothing, so it says of each
the CRC32C 0, and of what is composed the one that these make.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from sinks.stores.gcs import checksum
from tests.bench.null_http import Connection, serve

_OBJECTS = "/storage/v1/b/bench/o"
_HEAD = 8192  # bytes in which an upload tells what it is of


@dataclass(frozen=True, kw_only=True)
class Object:
    """What is known of one."""

    name: str
    generation: int
    size: int
    crc32c: int = 0
    told: dict[str, Any] = field(default_factory=dict)  # when it was made

    def described(self) -> dict[str, Any]:
        """Return it as Google describes it."""
        crc32c = base64.b64encode(self.crc32c.to_bytes(4, "big")).decode()
        return {
            **self.told,
            "kind": "storage#object",
            "name": self.name,
            "generation": str(self.generation),
            "size": str(self.size),
            "crc32c": crc32c,
        }


class Bucket:
    """All objects."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.generations = itertools.count(1)

    def make(self, name: str, size: int, told: dict[str, Any], crc32c: int = 0) -> Object:
        """Put an object."""
        made = Object(
            name=name, generation=next(self.generations), size=size, crc32c=crc32c, told=told
        )
        self.objects[name] = made
        return made


class Google(Connection):
    """One client."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__()
        self._bucket = bucket

    def keeps(self) -> int:
        return _HEAD if self.path.startswith("/upload") else self.size

    def answer(self) -> None:
        name = self.path.removeprefix(f"{_OBJECTS}/")
        match self.method, self.path:
            case "POST", path if path.startswith("/upload"):
                self._describe(self._uploaded())
            case "POST", path if path.endswith("/compose"):
                self._describe(self._composed(name.removesuffix("/compose")))
            case "GET", path if path == _OBJECTS:
                self._list()
            case "GET", _ if name in self._bucket.objects:
                self._describe(self._bucket.objects[name])
            case "DELETE", _ if self._bucket.objects.pop(name, None):
                self._say({}, status="204 No Content")
            case _:
                self._say({"error": {"code": 404, "message": "Not Found"}}, status="404 Not Found")

    def _uploaded(self) -> Object:
        [name] = self.query["name"]
        if "multipart/related" not in self.headers["content-type"]:
            return self._bucket.make(name, self.size, {})
        first, told, _ = bytes(self.body).split(b"\r\n\r\n", 2)
        boundary = first.split(b"\r\n", 1)[0]
        around = len(first) + len(told) + 2 * len(b"\r\n\r\n") + len(b"\r\n--\r\n" + boundary)
        return self._bucket.make(name, self.size - around, json.loads(told.split(b"\r\n", 1)[0]))

    def _composed(self, name: str) -> Object:
        asked = json.loads(self.body)
        sources = [self._bucket.objects[source["name"]] for source in asked["sourceObjects"]]
        return self._bucket.make(
            name,
            sum(source.size for source in sources),
            asked["destination"],
            checksum.joined((source.crc32c, source.size) for source in sources),
        )

    def _list(self) -> None:
        [beginning] = self.query.get("prefix", [""])
        stored_here = self._bucket.objects.items()
        found = [stored for name, stored in stored_here if name.startswith(beginning)]
        described = [stored.described() for stored in found]
        self._say({"kind": "storage#objects", "items": described})

    def _describe(self, found: Object) -> None:
        self._say(found.described())

    def _say(self, told: dict[str, Any], *, status: str = "200 OK") -> None:
        body = json.dumps(told) if told else ""
        self.say(body, {"x-goog-hash": "none"}, status=status)


def main() -> None:
    bucket = Bucket()
    asyncio.run(serve(lambda: Google(bucket)))


if __name__ == "__main__":
    main()
