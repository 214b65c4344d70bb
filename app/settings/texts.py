"""Rules of texts that come from outside. Each raises ValueError in words that name no value."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")  # a last label that makes an address of a name
_REGION = re.compile(r"(?![0-9]+$)(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_GOOGLE_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
_MAX_TEXT = 1024  # characters


def line(text: str) -> str:
    """Accept a text of one line that is not blank: anything that prints."""
    if not text.strip():
        raise ValueError("must not be blank")
    if len(text) > _MAX_TEXT:
        raise ValueError(f"must not be longer than {_MAX_TEXT} characters")
    if not text.isprintable():
        raise ValueError("must not have control characters")
    return text


def host(text: str) -> str:
    """Accept the name or the address of a host, without scheme and port."""
    if "://" in text or "/" in text:
        raise ValueError("must be a host alone, without scheme and path")
    if "%" in text:
        raise ValueError("must be a host name or an IP address, without a zone")
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        labels = text.split(".")
    if ":" in text:
        raise ValueError("must be a host alone; the port is a field of its own")
    if len(text) > 253 or not all(map(_LABEL.fullmatch, labels)) or _NUMBER.fullmatch(labels[-1]):
        raise ValueError(
            "must be an IP address, or a host name: letters, digits and hyphens between dots"
        )
    return text


def region(text: str) -> str:
    """Accept the region of an S3 server: a part of a host name, as S3 clients demand it."""
    if not _REGION.fullmatch(text):
        raise ValueError(
            "must be letters, digits and hyphens, not only digits, with no hyphen at its ends"
        )
    return text


def token(text: str) -> str:
    """Accept what is sent in an HTTP header: a line of ASCII, without blanks at its ends."""
    line(text)
    if not text.isascii() or text != text.strip():
        raise ValueError("must have ASCII characters only, and no blanks at its ends")
    return text


def prefix(text: str) -> str:
    """Accept what is put before the keys of objects."""
    line(text)
    if any(part in ("", ".", "..") for part in text.strip("/").split("/")):
        raise ValueError("must have no empty part, . or .. between slashes")
    return text


def folder(text: str) -> str:
    """Accept the absolute path of a folder, other than that of all."""
    line(text)
    if not text.startswith("/") or any(
        part in ("", ".", "..") for part in text.strip("/").split("/")
    ):
        raise ValueError("must be an absolute path, with no empty part, . or .. between slashes")
    if any(part.startswith(".rs-delivery-") for part in text.split("/")):
        raise ValueError("must have no part that begins with .rs-delivery-: the service's own do")
    return text


def server_address(text: str, *schemes: str) -> str:
    """Accept a URL that has user and password in it; several hosts are separated by commas.

    What drivers say of one that they can't read shows a part of the password.
    """
    if not text.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    try:
        named = urlsplit(text).netloc
        if "@" in text.partition("://")[2][len(named) :]:
            # Where the password has / or the like in it, its rest would pass for a path.
            named = ":cut off by what is in the password"
        hosts = named.rpartition("@")[2].split(",")
        ports = [urlsplit(f"//{host}").port for host in hosts]
    except ValueError:
        ports = [0]
    if 0 in ports or not text.isprintable() or " " in text:
        raise ValueError(
            "can't be read as a URL; in user and password, write / as %2F, ? as %3F, # as %23, "
            "@ as %40, : as %3A, % as %25, or give the password apart; behind the host, write @ as "
            "%40, too"
        )
    return text


def without_credentials(text: str) -> str:
    """Accept a URL that names no user and no password: addresses are told in messages."""
    try:
        named = "@" in urlsplit(text).netloc
    except ValueError:
        raise ValueError("can't be read as a URL") from None
    if named:
        raise ValueError("must not hold a user or a password: addresses are shown in messages")
    return text


def bucket(text: str) -> str:
    """Accept a bucket name by S3's rules for general purpose buckets."""
    if not _BUCKET.fullmatch(text):
        raise ValueError(
            "must be 3 to 63 lower-case letters, digits, dots and hyphens, "
            "with a letter or digit at both ends"
        )
    if ".." in text:
        raise ValueError("must not have two dots in a row")
    if re.fullmatch(r"[\d.]+", text) and text.count(".") == 3:
        raise ValueError("must not look like an IP address")
    if text.startswith(_RESERVED_PREFIXES) or text.endswith(_RESERVED_SUFFIXES):
        raise ValueError("has a prefix or suffix that S3 reserves")
    return text


def google_bucket(text: str) -> str:
    """Accept a bucket name by the rules of Google Cloud Storage."""
    if (
        not _GOOGLE_BUCKET.fullmatch(text)
        or ".." in text
        or any(not 1 <= len(part) <= 63 for part in text.split("."))
    ):
        raise ValueError(
            "must be 3 to 63 lower-case letters, digits, hyphens and underscores, with a letter or "
            "digit at both ends; between dots, each part likewise"
        )
    if re.fullmatch(r"[\d.]+", text) and text.count(".") == 3:
        raise ValueError("must not look like an IP address")
    if text.startswith("goog") or "google" in text:
        raise ValueError("must not have google in it, nor begin with goog")
    return text
