"""An S3 server for the demo and the tests: moto."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aioboto3

from compose.embedded.processes import Server, free_port, listens, running, start, wait_until
from compose.embedded.server_tls import ServerTls

KEY = "demo-access-key"
SECRET = "demo-secret-key"
REGION = "eu-west-1"
BUCKET = "deliveries"
# Which it is, and what it can't, as `sinks/stores/s3/abilities.py` calls it; a test holds it.
VERSION = importlib.metadata.version("moto")
LACKS: tuple[str, ...] = ("Content-MD5 of a part", "If-Match of a completion")


@contextlib.asynccontextmanager
async def s3(folder: Path, *, tls: ServerTls | None = None) -> AsyncIterator[Server]:
    """Run the server, with an empty bucket; it forgets everything when it ends."""
    port = free_port()
    spill = folder / "s3"
    spill.mkdir()
    child = start(
        "S3 (moto)",
        [
            *(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)),
            *(("-c", tls.certificate, "-k", tls.key) if tls else ()),
        ],
        log=folder / "s3.log",
        environment={"TMPDIR": str(spill)},
    )
    async with running(child):
        await wait_until(lambda: listens(port), child)
        endpoint = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        async with client(endpoint, KEY, SECRET, REGION, ca=tls.ca if tls else None) as s3_client:
            await s3_client.create_bucket(
                Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
            )
        yield Server(url=endpoint, child=child, answers=lambda: listens(port))


@functools.cache
def _session() -> aioboto3.Session:
    # What it reads of S3's description takes a third of a second, and is kept.
    return aioboto3.Session()


def client(  # type: ignore[no-untyped-def]  # noqa: ANN201
    endpoint: str, key: str, secret: str, region: str, *, ca: Path | None = None
):
    """Return an S3 client (to be entered) that knows nothing of the service's own settings."""
    return _session().client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name=region,
        verify=str(ca) if ca else None,
    )
