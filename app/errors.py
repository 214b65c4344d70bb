"""Every error that this service raises on purpose.

DeliveryError
├── RetryableError            it may go well later: wait and try again
│   ├── StoreUnavailableError     PostgreSQL
│   ├── BrokerUnavailableError    RabbitMQ or Kafka
│   │   └── NotSentError              it surely never had the message
│   ├── SourceUnavailableError    rs-order
│   │   └── SourceCredentialsError    this service's own credentials are refused (401, 407)
│   ├── SourceNotReadyError       rs-order has the order, but not all of its files yet
│   ├── IdentityUnavailableError  the identity provider
│   ├── TargetUnavailableError    the object store
│   │   └── ObjectBusyError           another delivery is just making an object of this name
│   ├── FolderBusyError           another client's delivery is putting files to the same place
│   ├── UploadLostError           an upload that the object store does not know any more
│   ├── CheckpointUnusableError   a half-made archive that this worker can't go on with
│   ├── WorkerStoppedError        this worker stops: another one takes the work at once
│   │   └── PausedError               transfers are paused: this one goes on when they are not
│   └── SecretUnreadableError     a stored secret that no configured key opens
├── PermanentError            it will not go well: the delivery ends, with this as its cause
│   ├── InvalidRequestError       the request breaks rules (the client's mistake)
│   ├── EmptyOrderError           the order holds no file
│   ├── IncompleteOrderError      rs-order made less available than it told before
│   ├── OrderFailedError          rs-order ended the order with errors
│   ├── NothingAvailableError     each file of a delivery that takes a part is missing
│   ├── SourceRefusedError        rs-order answers 403, 404, 410 or 422
│   │   └── SourceGoneError           410: it had the file, which a retry of the order brings back
│   ├── TargetRefusedError        the object store refuses: no bucket, no right, bad signature
│   │   ├── TargetForbiddenError      the operator does not let tenants deliver there
│   │   ├── NoLinkError               it makes no links to what is there
│   │   └── ObjectGoneError           an object is not there any more, or another one is
│   ├── ContentChangedError       what was delivered is not what it was: it is not removed
│   ├── ForeignObjectError        another tenant's or user's archive has the archive's place
│   ├── OrderTooLargeError        the order holds more files than a delivery may have
│   ├── TooManySubordersError     the order has more suborders than its tenant takes
│   ├── DayQuotaError             it has more bytes than its user or tenant may have today
│   ├── SizeNotToldError          a tar needs a file's size before its bytes
│   └── ArchiveTooLargeError      more than the target or the memory of a worker can take
├── WrongBytesError           a new attempt may get it right; some of them, then the delivery ends
│   ├── WrongFileError            a file is not what the listing says
│   │   └── WrongCrc32Error           by its CRC-32; its MD5, the stronger check, decides
│   └── WrongObjectError          the stored object is not what was sent
├── OrderNotToldError         rs-order does not tell this of an order: it is done without
├── LeaseLostError            another worker owns this transfer now: stop, change nothing
├── EndingError               the delivery ends, unless its archive has appeared: it is not made
├── SettingError              a change of a tenant's setting that is not made
│   ├── UnknownSettingError       there is no setting of this name
│   ├── InvalidSettingError       the value breaks rules; it has every reason
│   └── SettingChangedError       another client changed it first (If-Match)
├── InterventionError         what a person asked for a delivery is not done
│   ├── UnknownDeliveryError      there is no such delivery (of this tenant, of this user)
│   ├── UnknownDeadLetterError    there is no such dead letter
│   ├── DeadLetterChangedError    another client mended it first (If-Match)
│   ├── UnknownPauseError         there is no such pause, or nothing of this name to pause
│   ├── NotPossibleError          it is not in a state for that; the sentence says why
│   │   └── FailsAgainError           tried again, it would end the same way
│   ├── NotAllowedError           settings do not let it; the sentence names the one
│   ├── OverQuotaError            its user or tenant has as much as they may have now
│   └── DeliveredGoneError        what was delivered is not there any more
├── NotAcceptedError          no user signs in with this
├── UnreadableMessageError    a message that can't be understood: to the dead letters
└── ConfigurationError        a setting is wrong; the sentence says which, and what to do
    └── NotReachableError         no answer at a configured address: wrong, or away for now
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar

from app.codes import Code

UNFORESEEN = "unforeseen"  # so begins the cause of what is a fault of this program
_MAX_CAUSE = 8000  # characters of a cause
# PostgreSQL takes no NUL, UTF-8 no half of a surrogate pair, a terminal obeys the rest.
_NOT_PRINTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def as_cause(text: str) -> str:
    """Return another program's words, fit for database, log and client: printable, not endless."""
    more = len(text) - _MAX_CAUSE
    if more > 0:
        text = f"{text[:_MAX_CAUSE]}… (and {more:,} characters more)"
    return _NOT_PRINTED.sub("\N{REPLACEMENT CHARACTER}", text)


class ErrorType(StrEnum):
    """Why a request was denied or a delivery failed (contract, section 1)."""

    # Never read from a row again: lists and figures show the word as it is written there, so that
    # one of a later version is told, too. (The sentence above is in the published schemas.)

    INVALID_CONTENT = "INVALID_CONTENT"  # the request breaks rules, or rs-order says that it does
    FORBIDDEN = "FORBIDDEN"  # its user is unknown, or may not order this
    ORDER_LIMIT_REACHED = "ORDER_LIMIT_REACHED"  # too much is ordered: bytes, or files
    TOO_MANY_SUBORDERS = "TOO_MANY_SUBORDERS"  # rs-order has split the order: ask for less
    EMPTY_ORDER = "EMPTY_ORDER"  # the order holds no file
    EXPIRED = "EXPIRED"  # it was not done within its time
    INTERNAL_ERROR = "INTERNAL_ERROR"  # all else, a cancel too: the message says what


class DeliveryError(Exception):
    """Root of the errors of this service. Its message is a sentence for an operator."""

    code: ClassVar[Code] = Code.FAULT  # of the catalogue

    def __init__(self, message: str = "") -> None:
        super().__init__(as_cause(message))


class RetryableError(DeliveryError):
    """Something is away for now; `retry_after` is in seconds, where it says for how long."""

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreUnavailableError(RetryableError):
    """PostgreSQL does not answer, or can't do what is asked for now."""

    code = Code.DATABASE_AWAY


class BrokerUnavailableError(RetryableError):
    """RabbitMQ or Kafka does not confirm."""

    code = Code.BROKER_AWAY


class NotSentError(BrokerUnavailableError):
    """A broker surely never had the message."""


class SourceUnavailableError(RetryableError):
    """rs-order does not answer, breaks off, or answers what will pass."""

    code = Code.SOURCE_AWAY


class SourceCredentialsError(SourceUnavailableError):
    """rs-order, or a proxy before it, refuses this service's own credentials (401, 407)."""

    code = Code.SOURCE_CREDENTIALS


class SourceNotReadyError(RetryableError):
    """rs-order asks to come back later (202 or 206)."""

    code = Code.SOURCE_NOT_READY


class IdentityUnavailableError(RetryableError):
    """The identity provider does not answer, or not with what it must, or is not asked yet."""

    code = Code.IDENTITY_AWAY


class TargetUnavailableError(RetryableError):
    """The object store does not answer, or asks to slow down."""

    code = Code.TARGET_AWAY


class ObjectBusyError(TargetUnavailableError):
    """Another tenant's or user's delivery is just making an object of this name."""

    code = Code.PLACE_BUSY


class FolderBusyError(RetryableError):
    """Another tenant's or user's delivery may be putting files to the same place."""

    code = Code.PLACE_BUSY


class UploadLostError(RetryableError):
    """The object store has forgotten an upload: another client or one of its rules aborted it."""

    code = Code.UPLOAD_LOST


class CheckpointUnusableError(RetryableError):
    """What an earlier attempt has sent can't be gone on with: it begins again from the start."""

    code = Code.UPLOAD_LOST


class WorkerStoppedError(RetryableError):
    """This worker is told to stop: what it works on is another's at once, and nothing failed."""

    code = Code.WORKER_STOPPED

    def __init__(self, cause: str = "the worker was stopped") -> None:
        super().__init__(cause)


class PausedError(WorkerStoppedError):
    """Its transfers are paused: it goes on when they are not, and nothing failed."""

    code = Code.PAUSED


class SecretUnreadableError(RetryableError):
    """A stored secret can't be opened with the keys that are configured."""

    code = Code.SECRET_UNREADABLE


class PermanentError(DeliveryError):
    """Trying again would give the same outcome: it ends the delivery."""

    error_type: ClassVar[ErrorType] = ErrorType.INTERNAL_ERROR  # what its client is told


class InvalidRequestError(PermanentError):
    """The request breaks rules of the contract."""

    code = Code.INVALID_REQUEST

    def __init__(self, violations: Sequence[str]) -> None:
        super().__init__("; ".join(violations))
        self.reasons = tuple(violations)


class EmptyOrderError(PermanentError):
    """The order is done and holds no file."""

    code = Code.EMPTY_ORDER
    error_type = ErrorType.EMPTY_ORDER


class IncompleteOrderError(PermanentError):
    """rs-order made less available than it told before: a smaller archive would be a wrong one."""

    code = Code.ORDER_INCOMPLETE


class OrderFailedError(PermanentError):
    """rs-order ended the order with errors, of which it named the type."""

    code = Code.ORDER_FAILED


class OrderTooLargeError(PermanentError):
    """The order holds more files than a delivery may have, or than a worker can lay out."""

    code = Code.ORDER_TOO_LARGE
    error_type = ErrorType.ORDER_LIMIT_REACHED


class TooManySubordersError(PermanentError):
    """rs-order has split the order into more suborders than the tenant's max_suborders allows."""

    code = Code.TOO_MANY_SUBORDERS
    error_type = ErrorType.TOO_MANY_SUBORDERS


class DayQuotaError(PermanentError):
    """A delivery has more bytes than its user, or its tenant, may have today, or any day."""

    code = Code.DAY_QUOTA
    error_type = ErrorType.ORDER_LIMIT_REACHED


class NothingAvailableError(PermanentError):
    """What there is may be delivered, and each file is missing: there is nothing to deliver."""

    code = Code.NOTHING_AVAILABLE


class SourceRefusedError(PermanentError):
    """rs-order refuses for good.

    `position` is the place in the manifest of the file that it refuses; None: it is no file.
    """

    code = Code.SOURCE_REFUSED

    def __init__(self, message: str = "", *, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class SourceGoneError(SourceRefusedError):
    """A file has expired from rs-order's cache; a retry of its order may bring it back."""

    code = Code.SOURCE_GONE


class TargetRefusedError(PermanentError):
    """The object store refuses for good."""

    code = Code.TARGET_REFUSED


class TargetForbiddenError(TargetRefusedError):
    """A tenant's target leads to where tenants may not deliver: nothing was sent."""

    code = Code.TARGET_FORBIDDEN


class NoLinkError(TargetRefusedError):
    """A store makes no link to what is there, in the way that its target is signed in to."""

    code = Code.NO_LINK


class ObjectGoneError(TargetRefusedError):
    """An object is not there any more, or another one has taken its place."""

    code = Code.OBJECT_GONE


class ForeignObjectError(PermanentError):
    """Where the archive goes is that of another tenant or user, which is never replaced."""

    code = Code.FOREIGN_OBJECT


class ContentChangedError(PermanentError):
    """The object there has this delivery's marks, and is another one than its client was told."""

    code = Code.CONTENT_CHANGED


class SizeNotToldError(PermanentError):
    """A format needs to know a file's size in advance, and rs-order does not tell it."""

    code = Code.SIZE_NOT_TOLD
    error_type = ErrorType.INVALID_CONTENT  # another format is to be asked for


class ArchiveTooLargeError(PermanentError):
    """The archive can't be stored within the limits that are configured."""

    code = Code.ARCHIVE_TOO_LARGE


class WrongBytesError(DeliveryError):
    """What was transferred was not verified; it may be at a new attempt."""

    error_type: ClassVar[ErrorType] = ErrorType.INTERNAL_ERROR  # of the last attempt


class WrongFileError(WrongBytesError):
    """Size, MD5 or CRC-32 of a file differ from what rs-order's listing says.

    `position` is its place in the manifest.
    """

    code = Code.WRONG_FILE

    def __init__(self, message: str = "", *, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class WrongCrc32Error(WrongFileError):
    """A file that has an MD5 has another CRC-32 than was told: one of the two is wrong."""


class WrongObjectError(WrongBytesError):
    """Size or ETag of the stored object differ from what was sent."""

    code = Code.WRONG_OBJECT


class OrderNotToldError(DeliveryError):
    """rs-order does not tell all files of an order; it may still list its suborders."""

    code = Code.ORDER_NOT_TOLD


class LeaseLostError(DeliveryError):
    """The transfer belongs to another worker, or has ended."""

    code = Code.LEASE_LOST


class EndingError(DeliveryError):
    """It was cancelled, expired or failed as its archive may have appeared: look, then end it."""

    code = Code.COMPLETION_OPEN


class SettingError(DeliveryError):
    """A setting stays as it is."""

    code = Code.INVALID_SETTING


class UnknownSettingError(SettingError):
    """There is no such setting."""

    code = Code.UNKNOWN_SETTING


class InvalidSettingError(SettingError):
    """The value breaks rules."""

    code = Code.INVALID_SETTING

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


class SettingChangedError(SettingError):
    """The setting is not as the caller saw it."""

    code = Code.SETTING_CHANGED


class InterventionError(DeliveryError):
    """A delivery stays as it is."""

    code = Code.NOT_POSSIBLE


class UnknownDeliveryError(InterventionError):
    """There is no such delivery."""

    code = Code.UNKNOWN_DELIVERY


class UnknownDeadLetterError(InterventionError):
    """There is no such dead letter."""

    code = Code.UNKNOWN_DEAD_LETTER


class DeadLetterChangedError(InterventionError):
    """The dead letter is not as the caller saw it."""

    code = Code.DEAD_LETTER_CHANGED


class UnknownPauseError(InterventionError):
    """There is no such pause, or nothing of this name that could be paused."""

    code = Code.UNKNOWN_PAUSE


class NotPossibleError(InterventionError):
    """The delivery is not in a state for that."""

    code = Code.NOT_POSSIBLE


class FailsAgainError(NotPossibleError):
    """It would fail again for the cause that it ended for: it is done for who insists."""

    code = Code.FAILS_AGAIN


class NotAllowedError(InterventionError):
    """A setting of the tenant, or of the deployment, does not let it."""

    code = Code.NOT_ALLOWED


class OverQuotaError(InterventionError):
    """A user, or a tenant, has as much as they may have; `retry_after` is in seconds."""

    code = Code.OVER_QUOTA

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeliveredGoneError(InterventionError):
    """What was delivered is not where it was put, or another object is there."""

    code = Code.DELIVERED_GONE


class NotAcceptedError(DeliveryError):
    """A user's credentials are not good."""

    code = Code.NOT_SIGNED_IN


class UnreadableMessageError(DeliveryError):
    """A message can't be decoded; its reason travels to the dead letters with it."""

    code = Code.UNREADABLE_MESSAGE


class ConfigurationError(DeliveryError):
    """A setting can't be used. Ends a command with exit code 2."""

    code = Code.CONFIGURATION


class NotReachableError(ConfigurationError):
    """Nothing usable answers at a configured address. Ends a command with exit code 69."""

    code = Code.NOT_REACHABLE
