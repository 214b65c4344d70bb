"""An object that is put at once, where a store has no call of its own for that."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from app.delivery.object_store import May, ObjectStore, PartBody, TargetT_contra
from app.errors import DeliveryError, TargetUnavailableError, UploadLostError


async def put_by_upload(
    store: ObjectStore[TargetT_contra],
    target: TargetT_contra,
    key: str,
    body: PartBody,
    marks: Mapping[str, str],
    *,
    media_type: str,
    may: May,
) -> str:
    """Put an object by an upload of one part: `ObjectStore.put_object`, with an upload's fences.

    A completion looks several times, but asks for nothing after its window.
    """
    await may()
    upload = await store.create_upload(target, key, marks, media_type=media_type)
    try:
        part = await store.put_part(target, upload, 1, body)
        await may()
        return await store.complete(
            target, upload, [part], len(body), marks=marks, md5=body.md5.hex()
        )
    except BaseException as error:
        with contextlib.suppress(DeliveryError):  # else what clears the delivery's files does it
            await store.abort(target, upload)
        if isinstance(error, UploadLostError):
            raise TargetUnavailableError(f"{key} was not put: {error}") from error
        raise
