"""The catalogue of error codes that this program was built with; the service may know more."""

from __future__ import annotations

from collections.abc import Mapping

# fmt: off
# made by `make docs`: the catalogue of errors
STANZAS: Mapping[str, Mapping[str, str]] = {
 "INVALID_REQUEST": {
  "title": "The request breaks rules",
  "means": "A field of the request is missing, or has a value that it may not have. The message names each.",
  "waiting": "no",
  "who": "the client",
  "do": "Correct what the message names, and ask again.",
  "lost": "Nothing: the request was not taken in.",
  "user": "Something in your request is not as it must be.",
  "userDoes": "Correct what is named below, and ask again."
 },
 "EMPTY_ORDER": {
  "title": "The order holds no file",
  "means": "rs-order found nothing for the queries and filters of the request.",
  "waiting": "no",
  "who": "the client",
  "do": "Look at the queries, at `dataTypes` and at `filenameRegExp`; ask again for something that is there.",
  "lost": "Nothing: there was nothing to deliver.",
  "user": "There is nothing in the data archive that fits what you asked for.",
  "userDoes": "Look at your queries and choices of files, and ask again for something that is there."
 },
 "ORDER_DENIED": {
  "title": "rs-order denied the order",
  "means": "rs-order did not take the order. The message has its words.",
  "waiting": "no",
  "who": "the client",
  "do": "Change what rs-order objects to: the user's rights, the queries, or the amount of data. Then ask again.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "The data archive did not take your order.",
  "userDoes": "Change what it objects to, named below, and ask again."
 },
 "ORDER_FAILED": {
  "title": "The order ended with errors",
  "means": "rs-order could not make all files of the order available.",
  "waiting": "maybe",
  "who": "the team of rs-order",
  "do": "Look at the order at rs-order: its files in error. Once they are mended, ask again; or ask with `partial`, for what there is.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "The data archive could not make all of your files available.",
  "userDoes": "Ask again later, or ask for what there is."
 },
 "ORDER_INCOMPLETE": {
  "title": "rs-order made less available than it told before",
  "means": "Files that were announced are in no list. A smaller archive would be a wrong one.",
  "waiting": "maybe",
  "who": "the team of rs-order",
  "do": "Look at the order at rs-order. Ask again, or ask with `partial`, for what there is.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "The data archive gave fewer files than it had announced.",
  "userDoes": "Ask again, or ask for what there is."
 },
 "ORDER_IN_DOUBT": {
  "title": "It is not known which order was answered",
  "means": "Two different requests with one correlation id waited for rs-order, and its answer does not tell which of them it is for.",
  "waiting": "no",
  "who": "the client",
  "do": "Ask again, best with a correlation id that was not used before.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "Two of your requests had the same id, and could not be told apart.",
  "userDoes": "Ask again, with an empty id."
 },
 "ORDER_UNNAMED": {
  "title": "rs-order never told the order's number",
  "means": "The order is done, but no message had its orderId, so that its files can't be listed.",
  "waiting": "no",
  "who": "the team of rs-order",
  "do": "See in rs-order's log why its messages have no orderId; then ask again.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "The data archive prepared your order, and never told its number.",
  "userDoes": "Give your data centre the id below; ask again once that is mended."
 },
 "NO_PLACE": {
  "title": "The user's places at rs-order are taken",
  "means": "rs-order restores few suborders of a user at a time. What is not downloaded keeps a place, and no place has become free.",
  "waiting": "maybe",
  "who": "the client",
  "do": "Download or cancel what the message names at rs-order, then ask again (docs/operating.md, \"Why does a delivery wait?\").",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "The data archive prepares only so much for you at a time, and that is full.",
  "userDoes": "Fetch or cancel what you have ordered there, then ask again."
 },
 "ORDER_NOT_TOLD": {
  "title": "rs-order does not tell this of an order",
  "means": "This release of rs-order does not list all files of an order in advance. It is done without.",
  "waiting": "yes",
  "who": "it mends itself",
  "do": "Nothing.",
  "lost": "Nothing.",
  "user": "The data archive does not tell how large your order will be.",
  "userDoes": "Nothing: it goes on."
 },
 "ORDER_TOO_LARGE": {
  "title": "The order holds too many files",
  "means": "It has more files than a delivery may have.",
  "waiting": "no",
  "who": "the client",
  "do": "Ask for less at once, in several requests.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "You asked for more files than one delivery may have.",
  "userDoes": "Ask for less at once, in several requests."
 },
 "TOO_MANY_SUBORDERS": {
  "title": "The order has too many suborders",
  "means": "rs-order has cut the order into more suborders than the tenant's `max_suborders` allows.",
  "waiting": "no",
  "who": "the client",
  "do": "Ask for less at once; or the tenant's administrator raises `max_suborders` (0 is no limit).",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "You asked for more than one delivery may have.",
  "userDoes": "Ask for less at once, in several requests."
 },
 "DAY_QUOTA": {
  "title": "It is more than the quota of a day",
  "means": "The delivery has more bytes than its user, or its tenant, may have in a day.",
  "waiting": "maybe",
  "who": "the tenant's administrator",
  "do": "Ask for less, or tomorrow; or the tenant's administrator raises the quota. `delivery quota` tells what is left.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "It is more than you may have in a day.",
  "userDoes": "Ask for less, or ask again tomorrow."
 },
 "QUOTA_AWAITED": {
  "title": "It waits for a quota",
  "means": "Its user, or its tenant, has as many requests, or as many bytes of the day, as they may have now. The cause says whose quota it is.",
  "waiting": "yes",
  "who": "the tenant's administrator",
  "do": "Wait: it goes on by itself as deliveries end, or the day of UTC does. If that takes too long, the tenant's administrator raises the quota; `delivery quota` tells what is left.",
  "lost": "Nothing, until the request expires.",
  "user": "You have as much as you may have at the moment; this one waits its turn.",
  "userDoes": "Wait: it goes on by itself."
 },
 "SUBORDER_AWAITED": {
  "title": "It waits for the next suborder",
  "means": "What rs-order has made available of the order is archived, and the rest is not there yet.",
  "waiting": "yes",
  "who": "the team of rs-order",
  "do": "Wait: it goes on as rs-order makes the next suborder available. If it takes hours, see at rs-order whether it restores the order, and what keeps its user's places (docs/operating.md, \"Why does a delivery wait?\").",
  "lost": "Nothing, until the request expires.",
  "user": "A part is packed; the data archive is preparing the next one.",
  "userDoes": "Wait: it goes on by itself."
 },
 "NOTHING_AVAILABLE": {
  "title": "Each file is missing",
  "means": "What there is was to be delivered, and there is nothing: each file was refused or is gone.",
  "waiting": "no",
  "who": "the team of rs-order",
  "do": "Look at the order at rs-order: why its files can't be had. Then ask again.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "None of the files that you asked for can be had.",
  "userDoes": "Ask for other files, or give your data centre the id below."
 },
 "SOURCE_AWAY": {
  "title": "rs-order does not answer",
  "means": "rs-order can't be reached, breaks off, or answers with what will pass.",
  "waiting": "yes",
  "who": "the team of rs-order",
  "do": "Nothing for the delivery: it is tried again. If it lasts, see whether rs-order runs; `delivery doctor` tries it.",
  "lost": "Nothing, until the request expires.",
  "user": "The data archive does not answer at the moment.",
  "userDoes": "Wait: it is tried again by itself."
 },
 "SOURCE_CREDENTIALS": {
  "title": "rs-order refuses this service",
  "means": "rs-order, or a proxy before it, answers 401 or 407: it does not take this service's tokens.",
  "waiting": "maybe",
  "who": "the operator of this service",
  "do": "Give this service the secret that rs-order has (`DELIVERY_RS_ORDER_TOKEN_SECRET`), and see that the clocks agree; `delivery doctor` tries it. Deliveries go on by themselves then.",
  "lost": "Nothing, until the request expires.",
  "user": "The data archive does not let this service in at the moment.",
  "userDoes": "Wait: it goes on once your data centre has mended that."
 },
 "SOURCE_NOT_READY": {
  "title": "rs-order is still at it",
  "means": "rs-order answers that its files are not all there yet.",
  "waiting": "yes",
  "who": "it mends itself",
  "do": "Wait. If it takes hours, look at the order at rs-order.",
  "lost": "Nothing, until the request expires.",
  "user": "The data archive is still preparing your files.",
  "userDoes": "Wait: it goes on by itself."
 },
 "SOURCE_REFUSED": {
  "title": "rs-order refuses a file or an order",
  "means": "rs-order answers 403, 404 or 422: the user may not read it, it is not there, or it is in error.",
  "waiting": "no",
  "who": "the team of rs-order",
  "do": "403: give the user access to the data. 404, 422: look at the order at rs-order. Then ask again; or ask with `partial`, for the other files.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "The data archive does not give out a file: you may not read it, or it is not there.",
  "userDoes": "Ask for what there is, or ask your data centre for the right to read it."
 },
 "SOURCE_GONE": {
  "title": "A file has left rs-order's cache",
  "means": "rs-order answers 410, and retries of the order have not brought the file back in time.",
  "waiting": "no",
  "who": "the client",
  "do": "Ask again: a new order has the files restored. Ask for less at once, so that they are fetched while they are there.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "A file was prepared, and was cleared away before it could be packed.",
  "userDoes": "Ask again: it is prepared once more. Ask for less at once if that comes again."
 },
 "WRONG_FILE": {
  "title": "A file is not what it should be",
  "means": "Size, MD5 or CRC-32 of a file that was fetched differ from what rs-order's listing says.",
  "waiting": "maybe",
  "who": "the team of rs-order",
  "do": "It is tried some times by itself. If it stays, the file or its checksum in the catalogue is wrong: have it mended, then ask again.",
  "lost": "Nothing is delivered that is not verified. Whether the file at its source is damaged is to be seen.",
  "user": "A file came with another content than the data archive's checksum says.",
  "userDoes": "Give your data centre the id below; ask again once the file is mended."
 },
 "WRONG_OBJECT": {
  "title": "What was stored is not what was sent",
  "means": "Size or ETag of the object at the target differ from what was sent there.",
  "waiting": "maybe",
  "who": "the team of the target",
  "do": "It is tried some times by itself. If it stays, see whether something before the target changes what passes (a proxy, an encryption of its own).",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "What was stored is not what was sent, so it was not handed over.",
  "userDoes": "Ask again; if it stays, give your data centre the id below."
 },
 "TARGET_AWAY": {
  "title": "The target does not answer",
  "means": "The store to which it is delivered can't be reached, or asks to slow down.",
  "waiting": "yes",
  "who": "the team of the target",
  "do": "Nothing for the delivery: it is tried again. If it lasts, see whether the target works; `delivery doctor` tries it. `delivery pause` spares it meanwhile.",
  "lost": "Nothing, until the request expires.",
  "user": "The place that it goes to does not answer at the moment.",
  "userDoes": "Wait: it is tried again by itself."
 },
 "TARGET_REFUSED": {
  "title": "The target refuses",
  "means": "The store answered and said no: no right, no bucket, or a wrong signature.",
  "waiting": "no",
  "who": "the tenant's administrator",
  "do": "`delivery doctor` names the right that is missing. AccessDenied: give the key the rights of docs/least-rights.md. NoSuchBucket: make the bucket, or correct its name in the tenant's settings. Then `delivery retry --force`.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "The place that it goes to does not take files.",
  "userDoes": "Give your data centre the id below; ask again once that is mended."
 },
 "TARGET_FORBIDDEN": {
  "title": "Tenants may not deliver there",
  "means": "The target's address, or its folder, is one that the operator does not let tenants deliver to.",
  "waiting": "no",
  "who": "the operator of this service",
  "do": "Take another address for the target; or the operator allows this one (docs/settings.md). Then ask again.",
  "lost": "Nothing: nothing was sent.",
  "user": "Nothing may be delivered to the place that you chose.",
  "userDoes": "Ask again with another target."
 },
 "PLACE_BUSY": {
  "title": "Another delivery is at the same place",
  "means": "Another tenant's or user's delivery is just putting something there.",
  "waiting": "yes",
  "who": "it mends itself",
  "do": "Wait. If it comes again and again, give the tenants' targets a prefix or a bucket of their own.",
  "lost": "Nothing, until the request expires.",
  "user": "Another delivery is just being put at the same place.",
  "userDoes": "Wait: it goes on by itself."
 },
 "FOREIGN_OBJECT": {
  "title": "The place has another owner's archive",
  "means": "Where the archive goes is that of another tenant or user, which is never replaced.",
  "waiting": "no",
  "who": "the client",
  "do": "Ask again with another correlation id; the administrator gives each tenant a prefix or bucket of its own.",
  "lost": "Nothing: what is there stays.",
  "user": "Another user's delivery is where yours would go, and it is never replaced.",
  "userDoes": "Ask again, with an empty id or another name."
 },
 "CONTENT_CHANGED": {
  "title": "What was delivered is another object now",
  "means": "The object has the marks of the delivery, but is not the one that its client was told of.",
  "waiting": "no",
  "who": "the team of the target",
  "do": "Find out who has written it. It is not removed by this service: remove it by hand if it may go.",
  "lost": "Maybe: what was delivered has been replaced by another program.",
  "user": "What was delivered has been replaced by something else.",
  "userDoes": "Ask again if you need it; give your data centre the id below."
 },
 "UPLOAD_LOST": {
  "title": "A half-made archive can't be gone on with",
  "means": "The target has forgotten the upload, or what an earlier attempt noted does not fit.",
  "waiting": "yes",
  "who": "it mends itself",
  "do": "Nothing: it begins again. If it comes again, see whether a rule of the bucket aborts uploads too soon.",
  "lost": "Nothing but time: it is sent again from the start.",
  "user": "What was packed so far was lost.",
  "userDoes": "Nothing: it begins again by itself."
 },
 "SIZE_NOT_TOLD": {
  "title": "The size of a file is not known in advance",
  "means": "A tar needs the size of each file before its bytes, and rs-order does not tell one.",
  "waiting": "no",
  "who": "the client",
  "do": "Ask again with the format `zip` or `files`.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "The size of a file is not known in advance, which this format needs.",
  "userDoes": "Ask again with the format zip or files."
 },
 "ARCHIVE_TOO_LARGE": {
  "title": "The archive is too large",
  "means": "It is more than the target takes, or than a worker has memory for.",
  "waiting": "no",
  "who": "the client",
  "do": "Ask for less at once, or with the format `files`; or the operator gives workers more memory (docs/performance.md).",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "What you asked for is larger than its place takes.",
  "userDoes": "Ask for less at once, or with the format files."
 },
 "SECRET_UNREADABLE": {
  "title": "A stored secret can't be opened",
  "means": "None of the keys of `DELIVERY_SECRET_KEYS` opens it.",
  "waiting": "maybe",
  "who": "the operator of this service",
  "do": "Give each process the key that sealed it, too; or set the secret again in the tenant's settings.",
  "lost": "Nothing, until the request expires.",
  "user": "The service can't sign in at the place that it goes to.",
  "userDoes": "Wait: it goes on once your data centre has mended that."
 },
 "PAUSED": {
  "title": "Transfers are paused",
  "means": "An operator or administrator has paused them. The pause has a reason, and maybe an end.",
  "waiting": "yes",
  "who": "the operator of this service",
  "do": "`delivery pauses` tells who, why and until when; `delivery resume` ends it.",
  "lost": "Nothing, until the request expires.",
  "user": "Your data centre has paused deliveries.",
  "userDoes": "Wait: it goes on when the pause is over."
 },
 "WORKER_STOPPED": {
  "title": "The worker was stopped",
  "means": "Its worker was told to end; another one takes the work at once.",
  "waiting": "yes",
  "who": "it mends itself",
  "do": "Nothing. If none takes it, start a worker.",
  "lost": "Nothing.",
  "user": "It changes to another machine.",
  "userDoes": "Nothing: it goes on by itself."
 },
 "LEASE_LOST": {
  "title": "Another worker has it now",
  "means": "A worker stood still for too long, or was cut off, and another one has taken over.",
  "waiting": "yes",
  "who": "it mends itself",
  "do": "Nothing. If it comes again and again, give the machine more processor time, or look at its network.",
  "lost": "Nothing.",
  "user": "It has changed to another machine.",
  "userDoes": "Nothing: it goes on by itself."
 },
 "COMPLETION_OPEN": {
  "title": "It is not known yet whether the archive has appeared",
  "means": "It was to end while its archive was being completed: it is looked whether that has appeared.",
  "waiting": "yes",
  "who": "it mends itself",
  "do": "Wait: it is done if the archive has appeared, and ends if not.",
  "lost": "Nothing.",
  "user": "It was to end while it was being finished.",
  "userDoes": "Wait: you see in a moment whether it is there."
 },
 "EXPIRED": {
  "title": "It was not done within its time",
  "means": "The time of the tenant (`request_ttl`), or the deadline of the client, was over first. The message tells where it stood, and the last cause.",
  "waiting": "no",
  "who": "the client",
  "do": "Mend what it waited for, then ask again. Large orders may need a longer `request_ttl`.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "It could not be done in its time.",
  "userDoes": "Ask again, for less at once or with a later deadline; if it was far from done, give your data centre the id below."
 },
 "CANCELLED": {
  "title": "It was cancelled",
  "means": "A person, or its client, has ended it. The message tells who, and the reason that was given.",
  "waiting": "no",
  "who": "the client",
  "do": "Nothing; ask again if it is wanted all the same.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again.",
  "user": "It was cancelled.",
  "userDoes": "Ask again if you need it all the same."
 },
 "FAULT": {
  "title": "A fault of this service",
  "means": "Something happened that this program does not foresee.",
  "waiting": "maybe",
  "who": "the authors of this service",
  "do": "Look in the log for the delivery's correlation id, or the X-Request-ID, and send what is there to the authors. It is tried again meanwhile.",
  "lost": "Nothing, until the request expires.",
  "user": "Something went wrong that this service does not know.",
  "userDoes": "Give your data centre the id below, and ask again."
 },
 "DATABASE_AWAY": {
  "title": "PostgreSQL does not answer",
  "means": "The database can't be reached, or can't do what is asked for now.",
  "waiting": "yes",
  "who": "the operator of this service",
  "do": "See whether PostgreSQL runs; `delivery doctor` says more. Everything goes on by itself then.",
  "lost": "Nothing: requests wait in RabbitMQ."
 },
 "BROKER_AWAY": {
  "title": "RabbitMQ or Kafka does not confirm",
  "means": "A broker can't be reached, does not confirm, or has no queue for a message.",
  "waiting": "yes",
  "who": "the operator of this service",
  "do": "See whether both run, and whether rs-order has its queue; `delivery doctor` tells what is owed, and why.",
  "lost": "Nothing: messages stay owed until they are confirmed."
 },
 "IDENTITY_AWAY": {
  "title": "The identity provider does not answer",
  "means": "Tokens of the identity provider can't be checked for now.",
  "waiting": "yes",
  "who": "the operator of this service",
  "do": "See whether the provider answers; `delivery doctor` tries it. Deliveries are not touched by it.",
  "lost": "Nothing."
 },
 "CONFIGURATION": {
  "title": "A setting can't be used",
  "means": "A setting of this process is missing or wrong. The message names it.",
  "waiting": "no",
  "who": "the operator of this service",
  "do": "Correct the setting that is named (docs/settings.md), and start the process again.",
  "lost": "Nothing: other processes go on."
 },
 "NOT_REACHABLE": {
  "title": "Nothing answers at an address",
  "means": "At an address of the configuration nothing usable answers: it is wrong, or its server is away.",
  "waiting": "maybe",
  "who": "the operator of this service",
  "do": "Start the server, or correct the address that the message names.",
  "lost": "Nothing."
 },
 "TOPICS_DIFFER": {
  "title": "Kafka's topics are not as they should be",
  "means": "A topic is missing, or has other partitions, replicas or retention.",
  "waiting": "no",
  "who": "the operator of this service",
  "do": "`delivery topics apply` makes them so, where its user may.",
  "lost": "Nothing."
 },
 "NOT_WELL": {
  "title": "A check found problems",
  "means": "`delivery doctor` or `delivery health` found something that is not well, and has told it.",
  "waiting": "maybe",
  "who": "the operator of this service",
  "do": "Do what each line of `delivery doctor` advises.",
  "lost": "Nothing by this: the checks change nothing."
 },
 "UNREADABLE_MESSAGE": {
  "title": "A message can't be understood",
  "means": "It is no JSON, has no correlation id, or no tenant that is known: its client can't be answered.",
  "waiting": "no",
  "who": "the client",
  "do": "`delivery dead-letters list` tells why; mend it and put it back, or remove it, and have its sender corrected.",
  "lost": "Nothing: it stays among the dead letters until it is put back or removed."
 },
 "NOT_SIGNED_IN": {
  "title": "Sign in first",
  "means": "There is no token, or one that is over, or that this service does not believe.",
  "waiting": "no",
  "who": "the client",
  "do": "Sign in again. If a new token is refused, too, the operator looks at docs/sign-in.md.",
  "lost": "Nothing: all is as it was."
 },
 "FORBIDDEN": {
  "title": "The caller may not do that",
  "means": "The role of the token does not allow it, or its tenant is another one, or is not served here.",
  "waiting": "no",
  "who": "the tenant's administrator",
  "do": "Ask for a role that may (docs/operating.md has a table), or sign in to the right tenant.",
  "lost": "Nothing: all is as it was."
 },
 "MAINTENANCE": {
  "title": "The tenant is in maintenance",
  "means": "An administrator has put the tenant into maintenance: HTTP is refused, and messages wait.",
  "waiting": "yes",
  "who": "the tenant's administrator",
  "do": "Wait for its end; `delivery maintenance off`, or `PUT /maintenance/{tenant}/disable`, ends it.",
  "lost": "Nothing: requests wait in their queue."
 },
 "TOO_MANY_CALLS": {
  "title": "Too many calls at once",
  "means": "The caller, or all callers together, ask for more than this process answers at a time.",
  "waiting": "yes",
  "who": "the client",
  "do": "Come again after `Retry-After` seconds; ask for less at a time.",
  "lost": "Nothing: all is as it was."
 },
 "BAD_CALL": {
  "title": "The call is not as it must be",
  "means": "A method, header, body or range that this path does not take.",
  "waiting": "no",
  "who": "the client",
  "do": "Compare it with /openapi.json, and correct it.",
  "lost": "Nothing: all is as it was."
 },
 "NO_SUCH_PATH": {
  "title": "There is nothing at this path",
  "means": "No endpoint has this path.",
  "waiting": "no",
  "who": "the client",
  "do": "/openapi.json lists what there is.",
  "lost": "Nothing: all is as it was."
 },
 "UNKNOWN_DELIVERY": {
  "title": "There is no such delivery",
  "means": "The tenant has none of this id, it is another user's, or it is not kept any more.",
  "waiting": "no",
  "who": "the client",
  "do": "`delivery list` shows those that there are.",
  "lost": "Nothing; what ended long ago is forgotten after `DELIVERY_FINISHED_RETENTION`."
 },
 "UNKNOWN_DEAD_LETTER": {
  "title": "There is no such dead letter",
  "means": "It was put back or removed, or the id is another one's.",
  "waiting": "no",
  "who": "the operator of this service",
  "do": "`delivery dead-letters list` shows those that there are.",
  "lost": "Nothing: all is as it was."
 },
 "DEAD_LETTER_CHANGED": {
  "title": "The dead letter was mended meanwhile",
  "means": "It was mended since it was read (`If-Match`), or it was buried again.",
  "waiting": "no",
  "who": "the operator of this service",
  "do": "Read it again, and decide by what it is now.",
  "lost": "Nothing: the other client's mend stays."
 },
 "UNKNOWN_PAUSE": {
  "title": "There is no such pause",
  "means": "Nothing of this name is paused, or can be.",
  "waiting": "no",
  "who": "the operator of this service",
  "do": "`delivery pauses` shows those that there are.",
  "lost": "Nothing: all is as it was."
 },
 "UNKNOWN_SETTING": {
  "title": "There is no such setting",
  "means": "No setting of a tenant has this name.",
  "waiting": "no",
  "who": "the tenant's administrator",
  "do": "docs/configuration.md lists them.",
  "lost": "Nothing: all is as it was."
 },
 "INVALID_SETTING": {
  "title": "The setting can't have this value",
  "means": "The value breaks rules. The message names each.",
  "waiting": "no",
  "who": "the tenant's administrator",
  "do": "Correct what the message names.",
  "lost": "Nothing: the setting stays as it was."
 },
 "SETTING_CHANGED": {
  "title": "The setting was changed meanwhile",
  "means": "Another client has changed it since it was read (`If-Match`).",
  "waiting": "no",
  "who": "the tenant's administrator",
  "do": "Read it again, and decide by what it is now.",
  "lost": "Nothing: the other client's value stays."
 },
 "NOT_POSSIBLE": {
  "title": "That is not possible in this state",
  "means": "The delivery is not in a state for that. The message tells why.",
  "waiting": "maybe",
  "who": "the client",
  "do": "Do what the message advises.",
  "lost": "Nothing: all is as it was."
 },
 "FAILS_AGAIN": {
  "title": "It would fail again",
  "means": "It ended for a cause that stays until it is mended. Asked for again as it is, it ends the same way.",
  "waiting": "no",
  "who": "the client",
  "do": "Look up the code of its cause, and have that mended. Then try again with `force`.",
  "lost": "Nothing: all is as it was."
 },
 "NOT_ALLOWED": {
  "title": "A setting does not let it",
  "means": "A setting of the tenant, or of the deployment, is against it. The message names the setting.",
  "waiting": "no",
  "who": "the tenant's administrator",
  "do": "Change the setting that is named, or do without.",
  "lost": "Nothing: all is as it was."
 },
 "OVER_QUOTA": {
  "title": "The quota is used up",
  "means": "The user, or the tenant, has as many requests as they may have now.",
  "waiting": "yes",
  "who": "the tenant's administrator",
  "do": "Come again after `Retry-After` seconds; `delivery quota` tells what is left.",
  "lost": "Nothing: all is as it was."
 },
 "NO_LINK": {
  "title": "The target makes no links",
  "means": "In the way that the target is signed in to, no link to what is there can be made.",
  "waiting": "no",
  "who": "the tenant's administrator",
  "do": "Download through this service instead; or give the target credentials that can sign links.",
  "lost": "Nothing: all is as it was."
 },
 "OBJECT_GONE": {
  "title": "The object is not there any more",
  "means": "What was at the target is gone, or another object has taken its place.",
  "waiting": "no",
  "who": "the team of the target",
  "do": "See whether a rule of the bucket, or a person, removed it; then ask for the delivery again.",
  "lost": "The delivered copy is gone. The data is still at its source."
 },
 "DELIVERED_GONE": {
  "title": "What was delivered is gone",
  "means": "It is not where it was put: its time was over, or it was removed.",
  "waiting": "no",
  "who": "the client",
  "do": "Ask for the delivery again.",
  "lost": "The delivered copy is gone. The data is still at its source."
 },
 "DELIVERY_FAILED": {
  "title": "The delivery that was waited for failed",
  "means": "`delivery submit --wait` has seen it end without an archive.",
  "waiting": "no",
  "who": "the client",
  "do": "`delivery explain ID` tells why, and what to do.",
  "lost": "Nothing: no object appears before it is whole. The delivery has to be asked for again."
 }
}
# end of the catalogue of errors
# fmt: on
