"""What a tenant may set of a folder on an SFTP server."""

from __future__ import annotations

from typing import Any

import asyncssh
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.delivery.targets import TargetKinds
from app.errors import InvalidSettingError, TargetRefusedError
from app.settings import Settings
from app.tenants.definitions import Definitions
from app.tenants.masks import MASK, masked
from app.tenants.places import shared
from sinks.stores.s3.target import S3Target
from sinks.stores.sftp.host_key import HostKey
from sinks.stores.sftp.paths import Place
from sinks.stores.sftp.target import SftpTarget
from tests.builders import make_tenant_settings

KINDS = TargetKinds(S3Target, SftpTarget)
PAIR = asyncssh.generate_private_key("ssh-ed25519")
HOST_KEY = PAIR.export_public_key().decode().strip()
KEY = PAIR.export_private_key().decode()
ENTRY: dict[str, Any] = {
    "type": "sftp",
    "host": "sftp.example.org",
    "user": "deliverer",
    "host_key": HOST_KEY,
    "path": "/in/archives/",
    "key": KEY,
}


def parse(entry: dict[str, Any], *, current: dict[str, Any] | None = None) -> dict[str, Any]:
    known = {} if current is None else {"far": current}
    value: dict[str, Any] = Definitions(KINDS).parse(
        "delivery_targets", {"far": entry}, current=known, settings=Settings()
    )["far"]
    return value


def flaw(entry: dict[str, Any], *, current: dict[str, Any] | None = None) -> str:
    with pytest.raises(InvalidSettingError) as raised:
        parse(entry, current=current)
    (reason,) = raised.value.reasons
    return reason


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in ENTRY.items() if name not in names}


def test_an_entry_becomes_a_target() -> None:
    target = KINDS.configured(parse(ENTRY | {"prefix": "/p/"}))
    assert target == SftpTarget(
        host="sftp.example.org",
        port=22,
        user="deliverer",
        host_key=HOST_KEY,
        path="/in/archives",
        key=KEY,
        prefix="p/",
    )
    assert str(target) == "folder /in/archives at sftp://deliverer@sftp.example.org:22"
    assert target.url_of("p/c 1/a#.zip") == (
        "sftp://sftp.example.org:22/in/archives/p/c%201/a%23.zip"
    )
    assert KINDS.read(target.noted()) == target


def test_folders_of_users_that_have_roots_of_their_own_are_no_shared_place() -> None:
    one = SftpTarget.configured(ENTRY | {"user": "one"})
    other = SftpTarget.configured(ENTRY | {"user": "an@other"})
    assert other.endpoint == "sftp://an%40other@sftp.example.org:22"
    assert one.namespace == other.namespace == "sftp.example.org:22"

    def whose(*targets: SftpTarget) -> list[list[str]]:
        settings = [make_tenant_settings(target=target) for target in targets]
        return [*shared(zip(("t", "u"), settings, strict=True)).values()]

    assert whose(one, other) == []
    assert whose(one, one) == [["t (default)", "u (default)"]]


def test_a_servers_root_may_be_the_folder() -> None:
    target = KINDS.configured(parse(ENTRY | {"path": "/"}))
    assert isinstance(target, SftpTarget)
    assert (target.path, target.container) == ("/", "/")
    assert target.url_of("c/a.zip") == "sftp://sftp.example.org:22/c/a.zip"
    place = Place.of(target, "c/a.zip")
    assert (place.object, place.parents()) == ("/c/a.zip", ["/c"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"host": "sftp://h"}, "far.host: must be a host alone"),
        ({"host": "127.0.0.1"}, "far.host: 127.0.0.1 is a loopback address"),
        ({"port": 0}, "far.port: "),
        ({"host_key": "AAAA"}, "far.host_key: must be one line with the server's public key"),
        ({"host_key": "ssh-ed25519 AAA"}, "far.host_key: has a public key that is cut off"),
        ({"host_key": HOST_KEY.replace("ssh-ed25519", "ssh-rsa")}, "far.host_key: has a public"),
        ({"host_key": f"{HOST_KEY}\n{HOST_KEY}"}, "far.host_key: must be one line"),
        ({"path": "archives"}, "far.path: must be a folder from the server's root on"),
        ({"path": "/in/../etc"}, "far.path: must be a folder"),
        ({"path": "/in//out"}, "far.path: must be a folder"),
        ({"key": "no key"}, "far.key: must be a private key"),
        ({"key": KEY[:200]}, "far.key: must be a private key"),
        ({"key": KEY, "password": "p"}, "far: must have either key or password"),
        ({"secret": "s"}, "far.secret: "),
    ],
)
def test_what_is_wrong_is_said_in_words(change: dict[str, Any], reason: str) -> None:
    said = flaw(ENTRY | change)
    assert said.startswith(f"delivery_targets.{reason}")
    assert "PRIVATE KEY" not in said


def test_neither_key_nor_password_is_too_little() -> None:
    assert flaw(without("key")).endswith("must have either key or password")


# Made for this test, as OpenSSH makes one with a passphrase.
LOCKED = """-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABAPhTNXz1
gu7gkrZw9OxvBYAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAINBE+AgaBL89RZWS
gtTe9nG13iXgfpw2inXhak9N0AxxAAAAkPCauc5qFxb0PzDNPmKUF7o9sZybxvhAgTS4pm
On8++AyHAPFl2TLgP7sfGjOIWvxBx1Cp34bRBDQfzPU9UahI/JJQMohkqMdbD8cfDcQn6y
ZJBtM0BpJYQFNBdHpaUxb7LnXU/wBUWCuVaEUqIB4JDSZQX1CeNe11lA8qVu0scAe7keq2
DQFqscH+gA5KGaNg==
-----END OPENSSH PRIVATE KEY-----"""


@pytest.mark.parametrize(
    "locked", [LOCKED, PAIR.export_private_key("pkcs8-pem", passphrase="made up").decode()]
)
def test_a_private_key_with_a_passphrase_is_refused(locked: str) -> None:
    assert flaw(ENTRY | {"key": locked}).endswith(
        "far.key: is protected by a passphrase: give the key without one"
    )


@pytest.mark.parametrize("form", ["openssh", "pkcs8-pem", "pkcs1-pem"])
def test_private_keys_are_taken_in_the_forms_that_people_have(form: str) -> None:
    pair = asyncssh.generate_private_key("ssh-rsa")
    assert parse(ENTRY | {"key": pair.export_private_key(form).decode()})


@pytest.mark.parametrize("form", ["openssh", "pkcs8-pem"])
def test_an_rsa_key_that_takes_long_to_check_is_refused_at_once(form: str) -> None:
    """Its primes are none: who checks them takes seconds, and says another thing."""
    p, q, e = (1 << 4096) + 1, (1 << 4095) + 1, 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, p * q)
    )
    key = numbers.private_key(unsafe_skip_rsa_key_validation=True)
    text = key.private_bytes(
        Encoding.PEM,
        PrivateFormat.OpenSSH if form == "openssh" else PrivateFormat.PKCS8,
        NoEncryption(),
    ).decode()
    assert flaw(ENTRY | {"key": text}).endswith("4096 are the most; Ed25519 is better")


@pytest.mark.parametrize("secret", ["key", "password"])
def test_a_secret_is_masked_and_kept_for_its_server_alone(secret: str) -> None:
    current = parse(without("key") | {secret: KEY})
    shown = masked(current)
    assert shown == current | {secret: MASK}
    assert parse(shown | {"path": "/elsewhere"}, current=current)[secret] == KEY
    assert f"send the {secret} for this one" in flaw(
        shown | {"host": "other.example.org"}, current=current
    )


def test_a_fingerprint_is_that_which_openssh_prints() -> None:
    pinned = HostKey.read(HOST_KEY)
    assert pinned.fingerprint == PAIR.get_fingerprint()
    assert pinned.algorithms == (("ssh-ed25519",),)
    assert HostKey.read(PAIR.get_fingerprint()).fingerprint == pinned.fingerprint


@pytest.mark.parametrize(
    "key",
    ["../a", "c/../../a", "/a", "c//a", "c/.", "c/a\0", "c/\x1b[0m", ""],
)
def test_a_key_leads_nowhere_but_into_the_folder(key: str) -> None:
    with pytest.raises(TargetRefusedError, match="is no path of a file in folder /in/archives"):
        Place.of(SftpTarget.configured(ENTRY), key)


@pytest.mark.parametrize(
    "key", ["c/.a.rs-delivery", f"c/.a.rs-delivery-{'f' * 32}/data", ".a.zip.rs-delivery/x.json"]
)
def test_a_key_is_not_called_as_what_lies_beside_others(key: str) -> None:
    with pytest.raises(TargetRefusedError, match="is called as this service's own files"):
        Place.of(SftpTarget.configured(ENTRY), key)


def test_a_key_may_have_whatever_a_file_may_be_called() -> None:
    place = Place.of(SftpTarget.configured(ENTRY), "c\u00a0d/…/ a.zip")
    assert place.object == "/in/archives/c\u00a0d/…/ a.zip"


def test_names_beside_an_object_fit_whatever_its_own_length() -> None:
    target = SftpTarget.configured(ENTRY)
    names = set()
    for name in ("é" * 127, "é" * 126 + "a", "é" * 126):
        place = Place.of(target, f"c/{name}")
        for path in (place.notes, place.gone("f" * 32)):
            beside = path.rpartition("/")[2]
            assert len(beside.encode()) <= 255
            names.add(beside)
    assert len(names) == 6
