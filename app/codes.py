"""The catalogue: what can go wrong, each by a code that is looked up, and what to do about it.

A stanza a code. Each error of `app.errors` has one, and so has each other end of a delivery, and
each refusal over HTTP. Clients over AMQP are told an `ErrorType`, as the contract has it: a code is
finer, and for people. docs/errors.md and the console's help are made of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# Where the page of each code is; a link in an alert leads there.
PAGE = "docs/errors.md"


class Waiting(StrEnum):
    """Whether it helps to wait."""

    YES = "yes"
    MAYBE = "maybe"
    NO = "no"


class Who(StrEnum):
    """Who can mend it."""

    CLIENT = "the client"
    ADMINISTRATOR = "the tenant's administrator"
    OPERATOR = "the operator of this service"
    ORDER = "the team of rs-order"
    STORE = "the team of the target"
    ITSELF = "it mends itself"
    AUTHORS = "the authors of this service"


class Code(StrEnum):
    """What went wrong. A word that was published stays, and keeps its meaning."""

    # What ends a delivery, or puts it off.
    INVALID_REQUEST = "INVALID_REQUEST"
    EMPTY_ORDER = "EMPTY_ORDER"
    ORDER_DENIED = "ORDER_DENIED"
    ORDER_FAILED = "ORDER_FAILED"
    ORDER_INCOMPLETE = "ORDER_INCOMPLETE"
    ORDER_IN_DOUBT = "ORDER_IN_DOUBT"
    ORDER_UNNAMED = "ORDER_UNNAMED"
    NO_PLACE = "NO_PLACE"
    ORDER_NOT_TOLD = "ORDER_NOT_TOLD"
    ORDER_TOO_LARGE = "ORDER_TOO_LARGE"
    TOO_MANY_SUBORDERS = "TOO_MANY_SUBORDERS"
    DAY_QUOTA = "DAY_QUOTA"
    QUOTA_AWAITED = "QUOTA_AWAITED"
    SUBORDER_AWAITED = "SUBORDER_AWAITED"
    NOTHING_AVAILABLE = "NOTHING_AVAILABLE"
    SOURCE_AWAY = "SOURCE_AWAY"
    SOURCE_CREDENTIALS = "SOURCE_CREDENTIALS"
    SOURCE_NOT_READY = "SOURCE_NOT_READY"
    SOURCE_REFUSED = "SOURCE_REFUSED"
    SOURCE_GONE = "SOURCE_GONE"
    WRONG_FILE = "WRONG_FILE"
    WRONG_OBJECT = "WRONG_OBJECT"
    TARGET_AWAY = "TARGET_AWAY"
    TARGET_REFUSED = "TARGET_REFUSED"
    TARGET_FORBIDDEN = "TARGET_FORBIDDEN"
    PLACE_BUSY = "PLACE_BUSY"
    FOREIGN_OBJECT = "FOREIGN_OBJECT"
    CONTENT_CHANGED = "CONTENT_CHANGED"
    UPLOAD_LOST = "UPLOAD_LOST"
    SIZE_NOT_TOLD = "SIZE_NOT_TOLD"
    ARCHIVE_TOO_LARGE = "ARCHIVE_TOO_LARGE"
    SECRET_UNREADABLE = "SECRET_UNREADABLE"  # noqa: S105 - no secret
    PAUSED = "PAUSED"
    WORKER_STOPPED = "WORKER_STOPPED"
    LEASE_LOST = "LEASE_LOST"
    COMPLETION_OPEN = "COMPLETION_OPEN"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    FAULT = "FAULT"
    # What this service needs, and how it is set up.
    DATABASE_AWAY = "DATABASE_AWAY"
    BROKER_AWAY = "BROKER_AWAY"
    IDENTITY_AWAY = "IDENTITY_AWAY"
    CONFIGURATION = "CONFIGURATION"
    NOT_REACHABLE = "NOT_REACHABLE"
    TOPICS_DIFFER = "TOPICS_DIFFER"
    NOT_WELL = "NOT_WELL"
    UNREADABLE_MESSAGE = "UNREADABLE_MESSAGE"
    # What is asked of it, and not done.
    NOT_SIGNED_IN = "NOT_SIGNED_IN"
    FORBIDDEN = "FORBIDDEN"
    MAINTENANCE = "MAINTENANCE"
    TOO_MANY_CALLS = "TOO_MANY_CALLS"
    BAD_CALL = "BAD_CALL"
    NO_SUCH_PATH = "NO_SUCH_PATH"
    UNKNOWN_DELIVERY = "UNKNOWN_DELIVERY"
    UNKNOWN_DEAD_LETTER = "UNKNOWN_DEAD_LETTER"
    DEAD_LETTER_CHANGED = "DEAD_LETTER_CHANGED"
    UNKNOWN_PAUSE = "UNKNOWN_PAUSE"
    UNKNOWN_SETTING = "UNKNOWN_SETTING"
    INVALID_SETTING = "INVALID_SETTING"
    SETTING_CHANGED = "SETTING_CHANGED"
    NOT_POSSIBLE = "NOT_POSSIBLE"
    FAILS_AGAIN = "FAILS_AGAIN"
    NOT_ALLOWED = "NOT_ALLOWED"
    OVER_QUOTA = "OVER_QUOTA"
    NO_LINK = "NO_LINK"
    OBJECT_GONE = "OBJECT_GONE"
    DELIVERED_GONE = "DELIVERED_GONE"
    DELIVERY_FAILED = "DELIVERY_FAILED"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stanza:
    """What there is to know of a code."""

    title: str
    means: str
    waiting: Waiting
    who: Who  # can mend it
    do: str
    lost: str  # whether anything is
    # The same for those who asked for a delivery and know nothing of this service: what has
    # happened, and what they do. Of all that a delivery waits for, or ends with.
    user: str | None = None
    user_does: str | None = None


_NO_DELIVERY = (
    "Nothing: no object appears before it is whole. The delivery has to be asked for again."
)
_WAITS = "Nothing, until the request expires."
_UNCHANGED = "Nothing: all is as it was."

CATALOGUE: Mapping[Code, Stanza] = {
    Code.INVALID_REQUEST: Stanza(
        title="The request breaks rules",
        means="A field of the request is missing, or has a value that it may not have. The "
        "message names each.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Correct what the message names, and ask again.",
        lost="Nothing: the request was not taken in.",
        user="Something in your request is not as it must be.",
        user_does="Correct what is named below, and ask again.",
    ),
    Code.EMPTY_ORDER: Stanza(
        title="The order holds no file",
        means="rs-order found nothing for the queries and filters of the request.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Look at the queries, at `dataTypes` and at `filenameRegExp`; ask again for something "
        "that is there.",
        lost="Nothing: there was nothing to deliver.",
        user="There is nothing in the data archive that fits what you asked for.",
        user_does="Look at your queries and choices of files, and ask again for something that is "
        "there.",
    ),
    Code.ORDER_DENIED: Stanza(
        title="rs-order denied the order",
        means="rs-order did not take the order. The message has its words.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Change what rs-order objects to: the user's rights, the queries, or the amount of "
        "data. Then ask again.",
        lost=_NO_DELIVERY,
        user="The data archive did not take your order.",
        user_does="Change what it objects to, named below, and ask again.",
    ),
    Code.ORDER_FAILED: Stanza(
        title="The order ended with errors",
        means="rs-order could not make all files of the order available.",
        waiting=Waiting.MAYBE,
        who=Who.ORDER,
        do="Look at the order at rs-order: its files in error. Once they are mended, ask again; "
        "or ask with `partial`, for what there is.",
        lost=_NO_DELIVERY,
        user="The data archive could not make all of your files available.",
        user_does="Ask again later, or ask for what there is.",
    ),
    Code.ORDER_INCOMPLETE: Stanza(
        title="rs-order made less available than it told before",
        means="Files that were announced are in no list. A smaller archive would be a wrong one.",
        waiting=Waiting.MAYBE,
        who=Who.ORDER,
        do="Look at the order at rs-order. Ask again, or ask with `partial`, for what there is.",
        lost=_NO_DELIVERY,
        user="The data archive gave fewer files than it had announced.",
        user_does="Ask again, or ask for what there is.",
    ),
    Code.ORDER_IN_DOUBT: Stanza(
        title="It is not known which order was answered",
        means="Two different requests with one correlation id waited for rs-order, and its answer "
        "does not tell which of them it is for.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Ask again, best with a correlation id that was not used before.",
        lost=_NO_DELIVERY,
        user="Two of your requests had the same id, and could not be told apart.",
        user_does="Ask again, with an empty id.",
    ),
    Code.ORDER_UNNAMED: Stanza(
        title="rs-order never told the order's number",
        means="The order is done, but no message had its orderId, so that its files can't be "
        "listed.",
        waiting=Waiting.NO,
        who=Who.ORDER,
        do="See in rs-order's log why its messages have no orderId; then ask again.",
        lost=_NO_DELIVERY,
        user="The data archive prepared your order, and never told its number.",
        user_does="Give your data centre the id below; ask again once that is mended.",
    ),
    Code.NO_PLACE: Stanza(
        title="The user's places at rs-order are taken",
        means="rs-order restores few suborders of a user at a time. What is not downloaded keeps "
        "a place, and no place has become free.",
        waiting=Waiting.MAYBE,
        who=Who.CLIENT,
        do="Download or cancel what the message names at rs-order, then ask again "
        '(docs/operating.md, "Why does a delivery wait?").',
        lost=_NO_DELIVERY,
        user="The data archive prepares only so much for you at a time, and that is full.",
        user_does="Fetch or cancel what you have ordered there, then ask again.",
    ),
    Code.ORDER_NOT_TOLD: Stanza(
        title="rs-order does not tell this of an order",
        means="This release of rs-order does not list all files of an order in advance. It is "
        "done without.",
        waiting=Waiting.YES,
        who=Who.ITSELF,
        do="Nothing.",
        lost="Nothing.",
        user="The data archive does not tell how large your order will be.",
        user_does="Nothing: it goes on.",
    ),
    Code.ORDER_TOO_LARGE: Stanza(
        title="The order holds too many files",
        means="It has more files than a delivery may have.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Ask for less at once, in several requests.",
        lost=_NO_DELIVERY,
        user="You asked for more files than one delivery may have.",
        user_does="Ask for less at once, in several requests.",
    ),
    Code.TOO_MANY_SUBORDERS: Stanza(
        title="The order has too many suborders",
        means="rs-order has cut the order into more suborders than the tenant's `max_suborders` "
        "allows.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Ask for less at once; or the tenant's administrator raises `max_suborders` (0 is no "
        "limit).",
        lost=_NO_DELIVERY,
        user="You asked for more than one delivery may have.",
        user_does="Ask for less at once, in several requests.",
    ),
    Code.DAY_QUOTA: Stanza(
        title="It is more than the quota of a day",
        means="The delivery has more bytes than its user, or its tenant, may have in a day.",
        waiting=Waiting.MAYBE,
        who=Who.ADMINISTRATOR,
        do="Ask for less, or tomorrow; or the tenant's administrator raises the quota. `delivery "
        "quota` tells what is left.",
        lost=_NO_DELIVERY,
        user="It is more than you may have in a day.",
        user_does="Ask for less, or ask again tomorrow.",
    ),
    Code.QUOTA_AWAITED: Stanza(
        title="It waits for a quota",
        means="Its user, or its tenant, has as many requests, or as many bytes of the day, as they "
        "may have now. The cause says whose quota it is.",
        waiting=Waiting.YES,
        who=Who.ADMINISTRATOR,
        do="Wait: it goes on by itself as deliveries end, or the day of UTC does. If that takes "
        "too long, the tenant's administrator raises the quota; `delivery quota` tells what is "
        "left.",
        lost=_WAITS,
        user="You have as much as you may have at the moment; this one waits its turn.",
        user_does="Wait: it goes on by itself.",
    ),
    Code.SUBORDER_AWAITED: Stanza(
        title="It waits for the next suborder",
        means="What rs-order has made available of the order is archived, and the rest is not "
        "there yet.",
        waiting=Waiting.YES,
        who=Who.ORDER,
        do="Wait: it goes on as rs-order makes the next suborder available. If it takes hours, see "
        "at rs-order whether it restores the order, and what keeps its user's places "
        '(docs/operating.md, "Why does a delivery wait?").',
        lost=_WAITS,
        user="A part is packed; the data archive is preparing the next one.",
        user_does="Wait: it goes on by itself.",
    ),
    Code.NOTHING_AVAILABLE: Stanza(
        title="Each file is missing",
        means="What there is was to be delivered, and there is nothing: each file was refused or "
        "is gone.",
        waiting=Waiting.NO,
        who=Who.ORDER,
        do="Look at the order at rs-order: why its files can't be had. Then ask again.",
        lost=_NO_DELIVERY,
        user="None of the files that you asked for can be had.",
        user_does="Ask for other files, or give your data centre the id below.",
    ),
    Code.SOURCE_AWAY: Stanza(
        title="rs-order does not answer",
        means="rs-order can't be reached, breaks off, or answers with what will pass.",
        waiting=Waiting.YES,
        who=Who.ORDER,
        do="Nothing for the delivery: it is tried again. If it lasts, see whether rs-order runs; "
        "`delivery doctor` tries it.",
        lost=_WAITS,
        user="The data archive does not answer at the moment.",
        user_does="Wait: it is tried again by itself.",
    ),
    Code.SOURCE_CREDENTIALS: Stanza(
        title="rs-order refuses this service",
        means="rs-order, or a proxy before it, answers 401 or 407: it does not take this "
        "service's tokens.",
        waiting=Waiting.MAYBE,
        who=Who.OPERATOR,
        do="Give this service the secret that rs-order has (`DELIVERY_RS_ORDER_TOKEN_SECRET`), and "
        "see that the clocks agree; `delivery doctor` tries it. Deliveries go on by themselves "
        "then.",
        lost=_WAITS,
        user="The data archive does not let this service in at the moment.",
        user_does="Wait: it goes on once your data centre has mended that.",
    ),
    Code.SOURCE_NOT_READY: Stanza(
        title="rs-order is still at it",
        means="rs-order answers that its files are not all there yet.",
        waiting=Waiting.YES,
        who=Who.ITSELF,
        do="Wait. If it takes hours, look at the order at rs-order.",
        lost=_WAITS,
        user="The data archive is still preparing your files.",
        user_does="Wait: it goes on by itself.",
    ),
    Code.SOURCE_REFUSED: Stanza(
        title="rs-order refuses a file or an order",
        means="rs-order answers 403, 404 or 422: the user may not read it, it is not there, or it "
        "is in error.",
        waiting=Waiting.NO,
        who=Who.ORDER,
        do="403: give the user access to the data. 404, 422: look at the order at rs-order. Then "
        "ask again; or ask with `partial`, for the other files.",
        lost=_NO_DELIVERY,
        user="The data archive does not give out a file: you may not read it, or it is not there.",
        user_does="Ask for what there is, or ask your data centre for the right to read it.",
    ),
    Code.SOURCE_GONE: Stanza(
        title="A file has left rs-order's cache",
        means="rs-order answers 410, and retries of the order have not brought the file back in "
        "time.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Ask again: a new order has the files restored. Ask for less at once, so that they are "
        "fetched while they are there.",
        lost=_NO_DELIVERY,
        user="A file was prepared, and was cleared away before it could be packed.",
        user_does="Ask again: it is prepared once more. Ask for less at once if that comes again.",
    ),
    Code.WRONG_FILE: Stanza(
        title="A file is not what it should be",
        means="Size, MD5 or CRC-32 of a file that was fetched differ from what rs-order's listing "
        "says.",
        waiting=Waiting.MAYBE,
        who=Who.ORDER,
        do="It is tried some times by itself. If it stays, the file or its checksum in the "
        "catalogue is wrong: have it mended, then ask again.",
        lost="Nothing is delivered that is not verified. Whether the file at its source is "
        "damaged is to be seen.",
        user="A file came with another content than the data archive's checksum says.",
        user_does="Give your data centre the id below; ask again once the file is mended.",
    ),
    Code.WRONG_OBJECT: Stanza(
        title="What was stored is not what was sent",
        means="Size or ETag of the object at the target differ from what was sent there.",
        waiting=Waiting.MAYBE,
        who=Who.STORE,
        do="It is tried some times by itself. If it stays, see whether something before the "
        "target changes what passes (a proxy, an encryption of its own).",
        lost=_NO_DELIVERY,
        user="What was stored is not what was sent, so it was not handed over.",
        user_does="Ask again; if it stays, give your data centre the id below.",
    ),
    Code.TARGET_AWAY: Stanza(
        title="The target does not answer",
        means="The store to which it is delivered can't be reached, or asks to slow down.",
        waiting=Waiting.YES,
        who=Who.STORE,
        do="Nothing for the delivery: it is tried again. If it lasts, see whether the target "
        "works; `delivery doctor` tries it. `delivery pause` spares it meanwhile.",
        lost=_WAITS,
        user="The place that it goes to does not answer at the moment.",
        user_does="Wait: it is tried again by itself.",
    ),
    Code.TARGET_REFUSED: Stanza(
        title="The target refuses",
        means="The store answered and said no: no right, no bucket, or a wrong signature.",
        waiting=Waiting.NO,
        who=Who.ADMINISTRATOR,
        do="`delivery doctor` names the right that is missing. AccessDenied: give the key the "
        "rights of docs/least-rights.md. NoSuchBucket: make the bucket, or correct its name in "
        "the tenant's settings. Then `delivery retry --force`.",
        lost=_NO_DELIVERY,
        user="The place that it goes to does not take files.",
        user_does="Give your data centre the id below; ask again once that is mended.",
    ),
    Code.TARGET_FORBIDDEN: Stanza(
        title="Tenants may not deliver there",
        means="The target's address, or its folder, is one that the operator does not let tenants "
        "deliver to.",
        waiting=Waiting.NO,
        who=Who.OPERATOR,
        do="Take another address for the target; or the operator allows this one "
        "(docs/settings.md). Then ask again.",
        lost="Nothing: nothing was sent.",
        user="Nothing may be delivered to the place that you chose.",
        user_does="Ask again with another target.",
    ),
    Code.PLACE_BUSY: Stanza(
        title="Another delivery is at the same place",
        means="Another tenant's or user's delivery is just putting something there.",
        waiting=Waiting.YES,
        who=Who.ITSELF,
        do="Wait. If it comes again and again, give the tenants' targets a prefix or a bucket of "
        "their own.",
        lost=_WAITS,
        user="Another delivery is just being put at the same place.",
        user_does="Wait: it goes on by itself.",
    ),
    Code.FOREIGN_OBJECT: Stanza(
        title="The place has another owner's archive",
        means="Where the archive goes is that of another tenant or user, which is never replaced.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Ask again with another correlation id; the administrator gives each tenant a prefix "
        "or bucket of its own.",
        lost="Nothing: what is there stays.",
        user="Another user's delivery is where yours would go, and it is never replaced.",
        user_does="Ask again, with an empty id or another name.",
    ),
    Code.CONTENT_CHANGED: Stanza(
        title="What was delivered is another object now",
        means="The object has the marks of the delivery, but is not the one that its client was "
        "told of.",
        waiting=Waiting.NO,
        who=Who.STORE,
        do="Find out who has written it. It is not removed by this service: remove it by hand if "
        "it may go.",
        lost="Maybe: what was delivered has been replaced by another program.",
        user="What was delivered has been replaced by something else.",
        user_does="Ask again if you need it; give your data centre the id below.",
    ),
    Code.UPLOAD_LOST: Stanza(
        title="A half-made archive can't be gone on with",
        means="The target has forgotten the upload, or what an earlier attempt noted does not fit.",
        waiting=Waiting.YES,
        who=Who.ITSELF,
        do="Nothing: it begins again. If it comes again, see whether a rule of the bucket aborts "
        "uploads too soon.",
        lost="Nothing but time: it is sent again from the start.",
        user="What was packed so far was lost.",
        user_does="Nothing: it begins again by itself.",
    ),
    Code.SIZE_NOT_TOLD: Stanza(
        title="The size of a file is not known in advance",
        means="A tar needs the size of each file before its bytes, and rs-order does not tell one.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Ask again with the format `zip` or `files`.",
        lost=_NO_DELIVERY,
        user="The size of a file is not known in advance, which this format needs.",
        user_does="Ask again with the format zip or files.",
    ),
    Code.ARCHIVE_TOO_LARGE: Stanza(
        title="The archive is too large",
        means="It is more than the target takes, or than a worker has memory for.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Ask for less at once, or with the format `files`; or the operator gives workers more "
        "memory (docs/performance.md).",
        lost=_NO_DELIVERY,
        user="What you asked for is larger than its place takes.",
        user_does="Ask for less at once, or with the format files.",
    ),
    Code.SECRET_UNREADABLE: Stanza(
        title="A stored secret can't be opened",
        means="None of the keys of `DELIVERY_SECRET_KEYS` opens it.",
        waiting=Waiting.MAYBE,
        who=Who.OPERATOR,
        do="Give each process the key that sealed it, too; or set the secret again in the "
        "tenant's settings.",
        lost=_WAITS,
        user="The service can't sign in at the place that it goes to.",
        user_does="Wait: it goes on once your data centre has mended that.",
    ),
    Code.PAUSED: Stanza(
        title="Transfers are paused",
        means="An operator or administrator has paused them. The pause has a reason, and maybe an "
        "end.",
        waiting=Waiting.YES,
        who=Who.OPERATOR,
        do="`delivery pauses` tells who, why and until when; `delivery resume` ends it.",
        lost=_WAITS,
        user="Your data centre has paused deliveries.",
        user_does="Wait: it goes on when the pause is over.",
    ),
    Code.WORKER_STOPPED: Stanza(
        title="The worker was stopped",
        means="Its worker was told to end; another one takes the work at once.",
        waiting=Waiting.YES,
        who=Who.ITSELF,
        do="Nothing. If none takes it, start a worker.",
        lost="Nothing.",
        user="It changes to another machine.",
        user_does="Nothing: it goes on by itself.",
    ),
    Code.LEASE_LOST: Stanza(
        title="Another worker has it now",
        means="A worker stood still for too long, or was cut off, and another one has taken over.",
        waiting=Waiting.YES,
        who=Who.ITSELF,
        do="Nothing. If it comes again and again, give the machine more processor time, or look "
        "at its network.",
        lost="Nothing.",
        user="It has changed to another machine.",
        user_does="Nothing: it goes on by itself.",
    ),
    Code.COMPLETION_OPEN: Stanza(
        title="It is not known yet whether the archive has appeared",
        means="It was to end while its archive was being completed: it is looked whether that has "
        "appeared.",
        waiting=Waiting.YES,
        who=Who.ITSELF,
        do="Wait: it is done if the archive has appeared, and ends if not.",
        lost="Nothing.",
        user="It was to end while it was being finished.",
        user_does="Wait: you see in a moment whether it is there.",
    ),
    Code.EXPIRED: Stanza(
        title="It was not done within its time",
        means="The time of the tenant (`request_ttl`), or the deadline of the client, was over "
        "first. The message tells where it stood, and the last cause.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Mend what it waited for, then ask again. Large orders may need a longer `request_ttl`.",
        lost=_NO_DELIVERY,
        user="It could not be done in its time.",
        user_does="Ask again, for less at once or with a later deadline; if it was far from done, "
        "give your data centre the id below.",
    ),
    Code.CANCELLED: Stanza(
        title="It was cancelled",
        means="A person, or its client, has ended it. The message tells who, and the reason that "
        "was given.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Nothing; ask again if it is wanted all the same.",
        lost=_NO_DELIVERY,
        user="It was cancelled.",
        user_does="Ask again if you need it all the same.",
    ),
    Code.FAULT: Stanza(
        title="A fault of this service",
        means="Something happened that this program does not foresee.",
        waiting=Waiting.MAYBE,
        who=Who.AUTHORS,
        do="Look in the log for the delivery's correlation id, or the X-Request-ID, and send what "
        "is there to the authors. It is tried again meanwhile.",
        lost=_WAITS,
        user="Something went wrong that this service does not know.",
        user_does="Give your data centre the id below, and ask again.",
    ),
    Code.DATABASE_AWAY: Stanza(
        title="PostgreSQL does not answer",
        means="The database can't be reached, or can't do what is asked for now.",
        waiting=Waiting.YES,
        who=Who.OPERATOR,
        do="See whether PostgreSQL runs; `delivery doctor` says more. Everything goes on by "
        "itself then.",
        lost="Nothing: requests wait in RabbitMQ.",
    ),
    Code.BROKER_AWAY: Stanza(
        title="RabbitMQ or Kafka does not confirm",
        means="A broker can't be reached, does not confirm, or has no queue for a message.",
        waiting=Waiting.YES,
        who=Who.OPERATOR,
        do="See whether both run, and whether rs-order has its queue; `delivery doctor` tells "
        "what is owed, and why.",
        lost="Nothing: messages stay owed until they are confirmed.",
    ),
    Code.IDENTITY_AWAY: Stanza(
        title="The identity provider does not answer",
        means="Tokens of the identity provider can't be checked for now.",
        waiting=Waiting.YES,
        who=Who.OPERATOR,
        do="See whether the provider answers; `delivery doctor` tries it. Deliveries are not "
        "touched by it.",
        lost="Nothing.",
    ),
    Code.CONFIGURATION: Stanza(
        title="A setting can't be used",
        means="A setting of this process is missing or wrong. The message names it.",
        waiting=Waiting.NO,
        who=Who.OPERATOR,
        do="Correct the setting that is named (docs/settings.md), and start the process again.",
        lost="Nothing: other processes go on.",
    ),
    Code.NOT_REACHABLE: Stanza(
        title="Nothing answers at an address",
        means="At an address of the configuration nothing usable answers: it is wrong, or its "
        "server is away.",
        waiting=Waiting.MAYBE,
        who=Who.OPERATOR,
        do="Start the server, or correct the address that the message names.",
        lost="Nothing.",
    ),
    Code.TOPICS_DIFFER: Stanza(
        title="Kafka's topics are not as they should be",
        means="A topic is missing, or has other partitions, replicas or retention.",
        waiting=Waiting.NO,
        who=Who.OPERATOR,
        do="`delivery topics apply` makes them so, where its user may.",
        lost="Nothing.",
    ),
    Code.NOT_WELL: Stanza(
        title="A check found problems",
        means="`delivery doctor` or `delivery health` found something that is not well, and has "
        "told it.",
        waiting=Waiting.MAYBE,
        who=Who.OPERATOR,
        do="Do what each line of `delivery doctor` advises.",
        lost="Nothing by this: the checks change nothing.",
    ),
    Code.UNREADABLE_MESSAGE: Stanza(
        title="A message can't be understood",
        means="It is no JSON, has no correlation id, or no tenant that is known: its client can't "
        "be answered.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="`delivery dead-letters list` tells why; mend it and put it back, or remove it, and "
        "have its sender corrected.",
        lost="Nothing: it stays among the dead letters until it is put back or removed.",
    ),
    Code.NOT_SIGNED_IN: Stanza(
        title="Sign in first",
        means="There is no token, or one that is over, or that this service does not believe.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Sign in again. If a new token is refused, too, the operator looks at docs/sign-in.md.",
        lost=_UNCHANGED,
    ),
    Code.FORBIDDEN: Stanza(
        title="The caller may not do that",
        means="The role of the token does not allow it, or its tenant is another one, or is not "
        "served here.",
        waiting=Waiting.NO,
        who=Who.ADMINISTRATOR,
        do="Ask for a role that may (docs/operating.md has a table), or sign in to the right "
        "tenant.",
        lost=_UNCHANGED,
    ),
    Code.MAINTENANCE: Stanza(
        title="The tenant is in maintenance",
        means="An administrator has put the tenant into maintenance: HTTP is refused, and "
        "messages wait.",
        waiting=Waiting.YES,
        who=Who.ADMINISTRATOR,
        do="Wait for its end; `delivery maintenance off`, or `PUT /maintenance/{tenant}/disable`, "
        "ends it.",
        lost="Nothing: requests wait in their queue.",
    ),
    Code.TOO_MANY_CALLS: Stanza(
        title="Too many calls at once",
        means="The caller, or all callers together, ask for more than this process answers at a "
        "time.",
        waiting=Waiting.YES,
        who=Who.CLIENT,
        do="Come again after `Retry-After` seconds; ask for less at a time.",
        lost=_UNCHANGED,
    ),
    Code.BAD_CALL: Stanza(
        title="The call is not as it must be",
        means="A method, header, body or range that this path does not take.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Compare it with /openapi.json, and correct it.",
        lost=_UNCHANGED,
    ),
    Code.NO_SUCH_PATH: Stanza(
        title="There is nothing at this path",
        means="No endpoint has this path.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="/openapi.json lists what there is.",
        lost=_UNCHANGED,
    ),
    Code.UNKNOWN_DELIVERY: Stanza(
        title="There is no such delivery",
        means="The tenant has none of this id, it is another user's, or it is not kept any more.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="`delivery list` shows those that there are.",
        lost="Nothing; what ended long ago is forgotten after `DELIVERY_FINISHED_RETENTION`.",
    ),
    Code.UNKNOWN_DEAD_LETTER: Stanza(
        title="There is no such dead letter",
        means="It was put back or removed, or the id is another one's.",
        waiting=Waiting.NO,
        who=Who.OPERATOR,
        do="`delivery dead-letters list` shows those that there are.",
        lost=_UNCHANGED,
    ),
    Code.DEAD_LETTER_CHANGED: Stanza(
        title="The dead letter was mended meanwhile",
        means="It was mended since it was read (`If-Match`), or it was buried again.",
        waiting=Waiting.NO,
        who=Who.OPERATOR,
        do="Read it again, and decide by what it is now.",
        lost="Nothing: the other client's mend stays.",
    ),
    Code.UNKNOWN_PAUSE: Stanza(
        title="There is no such pause",
        means="Nothing of this name is paused, or can be.",
        waiting=Waiting.NO,
        who=Who.OPERATOR,
        do="`delivery pauses` shows those that there are.",
        lost=_UNCHANGED,
    ),
    Code.UNKNOWN_SETTING: Stanza(
        title="There is no such setting",
        means="No setting of a tenant has this name.",
        waiting=Waiting.NO,
        who=Who.ADMINISTRATOR,
        do="docs/configuration.md lists them.",
        lost=_UNCHANGED,
    ),
    Code.INVALID_SETTING: Stanza(
        title="The setting can't have this value",
        means="The value breaks rules. The message names each.",
        waiting=Waiting.NO,
        who=Who.ADMINISTRATOR,
        do="Correct what the message names.",
        lost="Nothing: the setting stays as it was.",
    ),
    Code.SETTING_CHANGED: Stanza(
        title="The setting was changed meanwhile",
        means="Another client has changed it since it was read (`If-Match`).",
        waiting=Waiting.NO,
        who=Who.ADMINISTRATOR,
        do="Read it again, and decide by what it is now.",
        lost="Nothing: the other client's value stays.",
    ),
    Code.NOT_POSSIBLE: Stanza(
        title="That is not possible in this state",
        means="The delivery is not in a state for that. The message tells why.",
        waiting=Waiting.MAYBE,
        who=Who.CLIENT,
        do="Do what the message advises.",
        lost=_UNCHANGED,
    ),
    Code.FAILS_AGAIN: Stanza(
        title="It would fail again",
        means="It ended for a cause that stays until it is mended. Asked for again as it is, it "
        "ends the same way.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Look up the code of its cause, and have that mended. Then try again with `force`.",
        lost=_UNCHANGED,
    ),
    Code.NOT_ALLOWED: Stanza(
        title="A setting does not let it",
        means="A setting of the tenant, or of the deployment, is against it. The message names "
        "the setting.",
        waiting=Waiting.NO,
        who=Who.ADMINISTRATOR,
        do="Change the setting that is named, or do without.",
        lost=_UNCHANGED,
    ),
    Code.OVER_QUOTA: Stanza(
        title="The quota is used up",
        means="The user, or the tenant, has as many requests as they may have now.",
        waiting=Waiting.YES,
        who=Who.ADMINISTRATOR,
        do="Come again after `Retry-After` seconds; `delivery quota` tells what is left.",
        lost=_UNCHANGED,
    ),
    Code.NO_LINK: Stanza(
        title="The target makes no links",
        means="In the way that the target is signed in to, no link to what is there can be made.",
        waiting=Waiting.NO,
        who=Who.ADMINISTRATOR,
        do="Download through this service instead; or give the target credentials that can sign "
        "links.",
        lost=_UNCHANGED,
    ),
    Code.OBJECT_GONE: Stanza(
        title="The object is not there any more",
        means="What was at the target is gone, or another object has taken its place.",
        waiting=Waiting.NO,
        who=Who.STORE,
        do="See whether a rule of the bucket, or a person, removed it; then ask for the delivery "
        "again.",
        lost="The delivered copy is gone. The data is still at its source.",
    ),
    Code.DELIVERED_GONE: Stanza(
        title="What was delivered is gone",
        means="It is not where it was put: its time was over, or it was removed.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="Ask for the delivery again.",
        lost="The delivered copy is gone. The data is still at its source.",
    ),
    Code.DELIVERY_FAILED: Stanza(
        title="The delivery that was waited for failed",
        means="`delivery submit --wait` has seen it end without an archive.",
        waiting=Waiting.NO,
        who=Who.CLIENT,
        do="`delivery explain ID` tells why, and what to do.",
        lost=_NO_DELIVERY,
    ),
}


def known(word: str | None) -> Code | None:
    """Return the code that a word is; None for none, and for one of a later version."""
    return None if word is None else Code.__members__.get(word)


def fails_again(word: str | None) -> bool:
    """Whether what ended for this cause ends so again, unless something is mended or changed."""
    code = known(word)
    return code in _STAYS


# Of those that do not pass: a new order, or a person's word, is another matter.
_STAYS = frozenset(
    code
    for code, stanza in CATALOGUE.items()
    if stanza.waiting is Waiting.NO
    and code not in (Code.CANCELLED, Code.EXPIRED, Code.SOURCE_GONE, Code.ORDER_IN_DOUBT)
)
