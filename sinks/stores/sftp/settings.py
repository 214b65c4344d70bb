"""What tenants set of a folder on an SFTP server: an entry of `delivery_targets`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from app.settings.texts import line
from app.tenants.definitions import Host, Prefix, Value
from app.tenants.masks import MASK, SECRET
from sinks.stores.sftp.host_key import HostKey

_MAX_KEY = 16_384  # characters
_MAX_RSA = 4096  # bits
_MAX_PATH = 1024  # characters


def _host_key(text: str) -> str:
    HostKey.read(text)
    return text.strip()


def _path(text: str) -> str:
    line(text)
    parts = text.rstrip("/").split("/")[1:]
    if not text.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise ValueError(
            "must be a folder from the server's root on, such as /deliveries, with no empty part, "
            ". or .. in it"
        )
    return text


def _private_key(text: str) -> str:
    if text == MASK:  # the stored one is kept
        return text
    # Imported when one is set: most commands read none.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    data = text.strip().encode() + b"\n"
    try:
        if b"BEGIN OPENSSH PRIVATE KEY" in data:
            load: Any = serialization.load_ssh_private_key
        else:
            load = serialization.load_pem_private_key
        # That the primes of an RSA key are some takes a second for 4096 bits, minutes for more, and
        # the process does nothing else meanwhile.
        key = load(data, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise ValueError("is protected by a passphrase: give the key without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(
            "must be a private key in OpenSSH's or PEM form, without a passphrase, with all of its "
            "lines"
        ) from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size > _MAX_RSA:
        raise ValueError(
            f"is an RSA key of {key.key_size} bits: {_MAX_RSA} are the most; Ed25519 is better"
        )
    return text


class SftpSettings(Value):
    """A folder on an SFTP server that requests choose by its name."""

    type: Literal["sftp"]
    host: Host = Field(description="Host name or IP address.")
    port: int = Field(22, ge=1, le=65535)
    user: Annotated[str, AfterValidator(line), Field(max_length=256)]
    host_key: Annotated[str, AfterValidator(_host_key), Field(max_length=_MAX_KEY)] = Field(
        description="The server's public key, a line as in /etc/ssh/ssh_host_ed25519_key.pub, or "
        "its fingerprint `SHA256:…`. No other server is spoken to."
    )
    path: Annotated[str, AfterValidator(_path), Field(max_length=_MAX_PATH)] = Field(
        description="Folder that archives are put into, from the server's root on. It must exist."
    )
    key: Annotated[str, AfterValidator(_private_key), Field(max_length=_MAX_KEY)] | None = Field(
        None,
        repr=False,
        json_schema_extra=SECRET,
        description="Private key to sign in with, in OpenSSH's or PEM form, without a passphrase. "
        f"Reads `{MASK}`; sent back like that, the stored one is kept, while host and port stay "
        "the same.",
    )
    password: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(
        None,
        repr=False,
        json_schema_extra=SECRET,
        description="Password to sign in with, in place of a key. Masked as it.",
    )
    prefix: Prefix | None = Field(None, description="Put before every key, with a / between.")

    @model_validator(mode="after")
    def _signs_in_by_one(self) -> Self:
        if (self.key is None) == (self.password is None):
            raise ValueError("must have either key or password")
        return self
