"""The pictures of docs/console: a row each. A page of the console has one, and belongs to one.

A row makes two: as on a desk, and as on a phone (`narrow-…`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """What is looked at, and what is said of it in docs/console.md."""

    name: str  # of its files
    title: str
    shows: str  # its text alternative, and the line above it
    page: str  # of app.js; empty: what is shown before a user is signed in
    rest: str = ""  # of the address, behind the page
    role: str = "PROJECT_ADMIN"
    there: tuple[str, ...]  # texts that are on the page once all of it is there

    @property
    def address(self) -> str:
        """What stands behind the address of the console."""
        return f"#/{self.page}{self.rest}"


PICTURES = (
    Picture(
        name="sign-in",
        title="Sign in",
        shows="Before anything else: with a token, with a user and a password of REGARDS, or at the"
        " site's identity provider, where those are set up.",
        page="",
        there=("With a token", "With a REGARDS user"),
    ),
    Picture(
        name="overview",
        title="Overview",
        shows="Where operators begin: what needs them, how much there is in each state, workers'"
        " slots, and what became of deliveries.",
        page="overview",
        there=("slots are taken", "within a day", "ended well", "AccessDenied"),
    ),
    Picture(
        name="mine",
        title="Mine",
        shows="What users see: their own deliveries, a card each, in their words.",
        page="mine",
        role="REGISTERED_USER",
        there=("Live: what happens", "On its way", "The data archive does not give out a file"),
    ),
    Picture(
        name="deliveries",
        title="Deliveries",
        shows="All of the tenant, the newest first; what happens is shown at once.",
        page="deliveries",
        there=("d-2035", "within a day", "Live: what happens"),
    ),
    Picture(
        name="delivery",
        title="A delivery under way",
        shows="How far it is, how fast, how long it takes still, and what can be done with it.",
        page="delivery",
        rest="/d-2057",
        there=("Live: what happens", "T31TCJ_20261003_B12.tif"),
    ),
    Picture(
        name="attempts",
        title="A delivery that is tried again",
        shows="Why it is not done, when it is tried next, and each attempt.",
        page="delivery",
        rest="/d-2041",
        there=("Live: what happens", "1 to 12, alike", "T31TCJ_20261003_B12.tif"),
    ),
    Picture(
        name="suborders",
        title="A delivery of several suborders",
        shows="Which of them are in the archive, and which one is awaited from rs-order.",
        page="delivery",
        rest="/d-2040",
        there=("Live: what happens", "awaited from rs-order", "T31TCJ_20261003_B12.tif"),
    ),
    Picture(
        name="failed",
        title="A delivery that failed",
        shows="Its cause with a code that leads to what it means, and whether it would fail again.",
        page="delivery",
        rest="/d-2035",
        there=("Live: what happens", "It would fail again", "T31TCJ_20261003_B12.tif"),
    ),
    Picture(
        name="new",
        title="New",
        shows="Asks for a delivery, and tells first what would be refused.",
        page="new",
        there=("Deliver what there is",),
    ),
    Picture(
        name="targets",
        title="Targets",
        shows="How it goes with each: it works, fails or is paused, since when; its last failure.",
        page="targets",
        there=("AccessDenied", "disks are exchanged"),
    ),
    Picture(
        name="workers",
        title="Workers",
        shows="Who works, since when, on what; each can be drained, and let work again.",
        page="workers",
        there=("slots", "d-2057"),
    ),
    Picture(
        name="settings",
        title="Settings",
        shows="A form for each: what is set for the tenant, in units, and what holds without.",
        page="settings",
        there=("Webhooks, by name",),
    ),
    Picture(
        name="audit",
        title="Audit",
        shows="Who did what, to what and when; narrowed by each of them.",
        page="audit",
        there=("request_ttl", "d-1986"),
    ),
    Picture(
        name="webhooks",
        title="Webhooks",
        shows="How each takes the events that it is sent, what waits, and what it never took.",
        page="webhooks",
        there=("it answered 503",),
    ),
    Picture(
        name="dead-letters",
        title="Dead letters",
        shows="Messages and events that could not be handled, each with its reason.",
        page="dead-letters",
        there=("the tenant sentinal is unknown",),
    ),
    Picture(
        name="system",
        title="System",
        shows="Versions, the database's schema, the parts of a process with their last error,"
        " maintenance, what is paused, targets, limits.",
        page="system",
        there=(
            "the newest that this program knows",
            "the connection broke",
            "is in none",
            "Resume transfers to tape-mirror",
            "Where this tenant's archives are put",
            "Files of an archive",
        ),
    ),
    Picture(
        name="help",
        title="Help",
        shows="What a code means, whether waiting helps, who can mend it, and what to do.",
        page="help",
        rest="/TARGET_REFUSED",
        there=("What it means",),
    ),
)
