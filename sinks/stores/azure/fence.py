"""The end of an upload, behind which no completion of it makes an object.

Azure has no uploads: blocks are staged under the *name* of a blob, by any client, and become
the blob when a list names them (Put Block List). Nothing but that blob can be a condition of the
list, least of all the upload's record. So the fence is in the order of what each side does:

    a completion                                 an end (`abort`)
    1 look at the blob: its version, or none     A the record: open → removed
    2 list the blocks that are staged              or completing → ending
    3 the record: open → completing              B, if it was completing: look whether blocks of the
      (or see that it is completing)               upload are staged. If there are, and
    4 name those blocks, on condition that           no blob: commit an empty list, on condition
      the blob is as it was in 1                     that there is none, and remove what it made
                                                     a blob: write its metadata again
                                                 C remove the record

3 and A are on condition that the record is as it was seen, so they are in one order or the other.
Suppose that 4 succeeds after the end has returned. Then 3 went well, so the record was not removed
while it was open, and B was done. If 3 came after A, it saw an upload that ends, and there is no 4;
so 1, 2 and 3 came before A. In B there was

- no block of the upload: those that 2 saw were gone. An id comes to be staged once at most
  (`sinks.stores.azure.blocks`), so they are gone for good, and 4 names one that is not there;
- blocks and no blob: the empty list discards all that is staged under the name: the same;
- blocks and a blob: its version is another one since. If 1 saw a blob, that version does not come
  again. If 1 saw none, a blob has come in between, and whatever makes one discards what is staged
  there: the same as above.

So it does not succeed. A record that may not be removed (a SAS that may not delete) is turned to
ending in A, open or not, and the end fails; it is a fence all the same, as the caller may go on.

Where no completion was ever asked for, A is all of it, and no blob is touched: no consumer sees
anything of a delivery that fails before. Where one was, the empty list makes a blob of no bytes
for the moment between two requests; it is marked, so that it is taken for no object, and whatever
dies between them leaves the record, and so the upload, open for the next one to end it. It discards
other uploads' blocks of that name, too, and names these uploads in its metadata: they are ended
with it, so that their next part is refused (UploadLostError), and they begin again. Blocks of an
upload that was open when it ended are discarded by the next completion under that name, or by
Azure, after a week: only a blob of that name discards them, which would be an empty archive for a
moment, or, where a blob is there, that blob written again. A week of storage is less than that.
"""

from __future__ import annotations

from dataclasses import replace

from app.delivery.object_store import Upload
from app.errors import TargetRefusedError, TargetUnavailableError
from sinks.stores.azure.blocks import of_upload
from sinks.stores.azure.calls import AzureCalls, NotMetError
from sinks.stores.azure.metadata import DISCARD, own_in
from sinks.stores.azure.records import UploadRecords
from sinks.stores.azure.requests import NO_CONTAINER, code_of
from sinks.stores.azure.target import AzureTarget

_MAX_ROUNDS = 5  # in which others may change the blob
_MAX_TOLD = 100  # uploads whose blocks are discarded at once: metadata has 8 KiB


async def end_upload(
    calls: AzureCalls, records: UploadRecords, target: AzureTarget, upload: Upload
) -> None:
    """End an upload; one that is gone already is fine."""
    try:
        if await records.end(target, upload):
            await _fence(calls, records, target, upload)
            await records.remove(target, upload)
    except TargetRefusedError as error:
        if code_of(error) not in NO_CONTAINER:
            raise


async def _fence(
    calls: AzureCalls, records: UploadRecords, target: AzureTarget, upload: Upload
) -> None:
    for _ in range(_MAX_ROUNDS):
        staged = await calls.staged(target, upload.key)
        own = of_upload(staged, upload.upload_id)
        blob = await calls.describe(target, upload.key)
        discarded = own_in(blob.metadata, DISCARD) if blob is not None else None
        try:
            if own and (blob is None or discarded is not None):
                uploads = {*(discarded or "").split(), *(block.id.upload_id for block in staged)}
                await calls.commit(
                    target,
                    upload.key,
                    [],
                    metadata={DISCARD: " ".join(sorted(uploads)[:_MAX_TOLD])},
                    media_type="application/octet-stream",
                    version=None if blob is None else blob.version,
                )
                continue
            if blob is not None and discarded is not None:
                for other in {*discarded.split()} - {upload.upload_id}:
                    await records.end(target, replace(upload, upload_id=other))
                await calls.remove(target, upload.key, version=blob.version)
            elif blob is not None and own:
                await calls.set_metadata(target, upload.key, blob.metadata, version=blob.version)
        except NotMetError:
            continue
        return
    raise TargetUnavailableError(
        f"{upload.key} in {target} is written by others again and again: the upload is not ended"
    )
