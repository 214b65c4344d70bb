"""Azure's blob storage that forgets everything at once, as `null_s3` is S3.

It speaks as much of it as block blobs need, to Microsoft's own client library. It has one blob a
path, and the blocks that are staged there; of neither a byte.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tests.bench.null_http import Connection, serve

_META = "x-ms-meta-"


@dataclass
class Blob:
    """What is known of one."""

    size: int
    version: str  # its ETag
    metadata: dict[str, str]


class Account:
    """All blobs, and blocks that are staged."""

    def __init__(self) -> None:
        self.blobs: dict[str, Blob] = {}  # by path
        self.blocks: defaultdict[str, dict[str, int]] = defaultdict(dict)  # sizes, by path and id
        self.numbers = itertools.count(1)


class Azure(Connection):
    """One client."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account

    def keeps(self) -> int:
        return self.size if "blocklist" in self.query.get("comp", []) else 0

    def answer(self) -> None:
        account, there = self._account, self._account.blobs.get(self.path)
        missed = there is None if "if-match" in self.headers else False
        if "if-none-match" in self.headers and there is not None:
            missed = True
        match self.method, self.query.get("comp", [""])[0]:
            case "PUT" | "DELETE", _ if missed:
                self._refuse("412 Precondition Failed", "ConditionNotMet")
            case "PUT", "block":
                account.blocks[self.path][self.query["blockid"][0]] = self.size
                md5 = self.headers.get("content-md5")
                self._say("201 Created", {"Content-MD5": md5} if md5 else {})
            case "PUT", "blocklist":
                staged = account.blocks.pop(self.path, {})
                named = re.findall(r"<(?:Latest|Uncommitted)>([^<]*)<", self.body.decode())
                self._made(sum(staged[block] for block in named))
            case "PUT", "metadata":
                self._made(there.size if there else 0, status="200 OK")
            case "PUT", _:
                self._made(self.size)
            case "GET", "blocklist":
                blocks = account.blocks.get(self.path, {}).items()
                listed = "".join(
                    f"<Block><Name>{name}</Name><Size>{size}</Size></Block>"
                    for name, size in blocks
                )
                listed = f"<UncommittedBlocks>{listed}</UncommittedBlocks>"
                self._say("200 OK", body=f"<BlockList>{listed}</BlockList>")
            case "HEAD", _ if there is not None:
                said = {"ETag": there.version, "x-ms-blob-type": "BlockBlob", **there.metadata}
                self._say("200 OK", said, length=there.size)
            case "DELETE", _ if there is not None:
                del account.blobs[self.path]
                self._say("202 Accepted")
            case _:
                self._refuse("404 Not Found", "BlobNotFound")

    def _made(self, size: int, *, status: str = "201 Created") -> None:
        version = f'"{next(self._account.numbers)}"'
        metadata = {name: text for name, text in self.headers.items() if name.startswith(_META)}
        self._account.blobs[self.path] = Blob(size, version, metadata)
        self._say(status, {"ETag": version})

    def _refuse(self, status: str, code: str) -> None:
        self._say(status, {"x-ms-error-code": code})

    def _say(
        self,
        status: str,
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        body: str = "",
        length: int | None = None,
    ) -> None:
        told = {"x-ms-request-id": "0", "x-ms-version": "2021-12-02", **headers}
        self.say(body, told, length=length, status=status)


def main() -> None:
    account = Account()
    asyncio.run(serve(lambda: Azure(account)))


if __name__ == "__main__":
    main()
