"""S3 servers of several makes, without Docker: each built once from its Go module, then kept.

A module of its own beside `s3.py`: it takes Go and some minutes, which the demo does not ask for.

    python -m compose.embedded.s3_servers COMMAND…    # runs COMMAND against one after the other
    MAKES="versitygw minio" python -m …               # against these alone
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from compose.embedded import s3
from compose.embedded.go_programs import GoProgram
from compose.embedded.processes import (
    Server,
    StackError,
    free_port,
    running,
    start,
    wait_until,
)

_HOME = Path(__file__).resolve().parents[2] / ".tools" / "s3"


@dataclass(frozen=True, kw_only=True)
class Make(GoProgram):
    """A server: how it is had, and how it is started."""

    arguments: Callable[[int, Path], Sequence[str | Path]]  # for a port of loopback and a folder
    environment: Mapping[str, str] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()  # as `sinks/stores/s3/abilities.py` calls it; a test holds it


def _versitygw(port: int, home: Path) -> Sequence[str | Path]:
    (home / "data").mkdir()
    signed = ("--access", s3.KEY, "--secret", s3.SECRET, "--region", s3.REGION)
    return (*signed, "--port", f"127.0.0.1:{port}", "posix", home / "data")


def _minio(port: int, home: Path) -> Sequence[str | Path]:
    return "server", "--quiet", "--address", f"127.0.0.1:{port}", home / "data"


def _seaweedfs(port: int, home: Path) -> Sequence[str | Path]:
    (home / "data").mkdir()
    (home / "s3.json").write_text(
        json.dumps(
            {
                "identities": [
                    {
                        "name": "deliveries",
                        "credentials": [{"accessKey": s3.KEY, "secretKey": s3.SECRET}],
                        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
                    }
                ]
            }
        )
    )
    ports = {f"{part}.port": free_port() for part in ("master", "volume", "filer")}
    ports |= {f"{part}.port.grpc": free_port() for part in ("master", "volume", "filer", "s3")}
    options = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": home / "data",
        "s3.port": port,
        **ports,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": home / "s3.json",
        # It makes a bucket that is not there for who may: not what is asked of it here.
        "s3.autoCreateBucket": "false",
        "s3.localSocket": home / "s3.sock",
        "filer.localSocket": home / "filer.sock",
        "master.volumeSizeLimitMB": 128,
        "master.telemetry": "false",
        "volume.max": 0,
        "volume.preStopSeconds": 0,
    }
    return "server", "-s3", *(f"-{name}={value}" for name, value in options.items())


MAKES = {
    make.name: make
    for make in (
        Make(
            name="versitygw",
            version="1.8.0",
            module="github.com/versity/versitygw",
            at="v1.8.0",
            digest="h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc=",
            package="cmd/versitygw",
            arguments=_versitygw,
        ),
        # Of the last weeks under the Apache licence, as it is still found.
        Make(
            name="minio",
            version="2021-04-07",
            module="github.com/minio/minio",
            at="v0.0.0-20210407225602-2899cc92b45f",
            digest="h1:mJ+zUfD7cZkOKXJR2H1xSuaG1jME8445SQqra/lbwkY=",
            newer=("golang.org/x/sys@v0.30.0", "golang.org/x/net@v0.30.0"),
            arguments=_minio,
            environment={
                "MINIO_ROOT_USER": s3.KEY,
                "MINIO_ROOT_PASSWORD": s3.SECRET,
                "MINIO_REGION_NAME": s3.REGION,
                "MINIO_UPDATE": "off",
                "MINIO_BROWSER": "off",
            },
            lacks=(
                "If-None-Match of a completion",
                "If-Match of a completion",
                "If-None-Match of a PUT",
                "If-Match of a PUT",
                "If-Match of a DELETE",
            ),
        ),
        Make(
            name="seaweedfs",
            version="4.53",
            module="github.com/seaweedfs/seaweedfs",
            at="v0.0.0-20261109003541-7506e5f91cd6",
            digest="h1:LOYZFToHq9F7pSR6lkPGfkM8RmHlVFrzndKdhmNZjrU=",
            package="weed",
            arguments=_seaweedfs,
            lacks=("parts replaced",),
        ),
    )
}


@contextlib.asynccontextmanager
async def s3_server(make: Make, folder: Path) -> AsyncIterator[Server]:
    """Run one, with an empty bucket. Raises StackError naming what is missing."""
    program = await asyncio.to_thread(make.built, _HOME)
    port = free_port()
    home = folder / make.name
    home.mkdir()
    child = start(
        make.name,
        [program, *make.arguments(port, home)],
        log=folder / f"{make.name}.log",
        environment=make.environment,
        cwd=home,
    )
    async with running(child):
        endpoint = f"http://127.0.0.1:{port}"
        async with s3.client(endpoint, s3.KEY, s3.SECRET, s3.REGION) as client:
            answers = partial(_answers, client)
            await wait_until(answers, child)
            await client.create_bucket(
                Bucket=s3.BUCKET, CreateBucketConfiguration={"LocationConstraint": s3.REGION}
            )
            yield Server(url=endpoint, child=child, answers=answers)


async def _answers(client: Any) -> None:
    """Raise OSError unless the server answers: one listens before it has all of its parts."""
    try:
        await client.list_buckets()
    except (BotoCoreError, ClientError) as error:
        raise OSError(str(error)) from error


async def _run(make: Make, command: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="rs-delivery-s3-") as folder:
        async with s3_server(make, Path(folder)) as server:
            environment = os.environ | {
                "DELIVERY_S3_ENDPOINT": server.url,
                "S3_MAKE": make.name,
            }
            process = await asyncio.create_subprocess_exec(*command, env=environment)
            return await process.wait()


def main() -> int:
    """Run a command against each; where there is no Go, say so and succeed."""
    names = os.environ.get("MAKES", "").split() or list(MAKES)
    if unknown := [name for name in names if name not in MAKES]:
        print(f"there is no {', '.join(unknown)}: choose of {', '.join(MAKES)}", file=sys.stderr)
        return 2
    if shutil.which("go") is None and not all(
        MAKES[name].program(_HOME).exists() for name in names
    ):
        print("skipped: these servers are built by Go, and there is no `go`")
        return 0
    codes: dict[str, int] = {}
    for name in names:
        print(f"== {name} {MAKES[name].version}", flush=True)
        try:
            codes[name] = asyncio.run(_run(MAKES[name], sys.argv[1:]))
        except StackError as error:
            print(error, file=sys.stderr)
            codes[name] = 1
    if failed := [name for name, code in codes.items() if code]:
        print(f"failed on {', '.join(failed)}", file=sys.stderr)
    return int(any(codes.values()))


if __name__ == "__main__":
    sys.exit(main())
