"""TLS to the neighbours: whose certificates are trusted, what we show, and what a failure means."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import ConfigurationError

# OpenSSL's numbers: X509_V_ERR_…
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)  # host name, IP address

_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
# What a server tells that does not like the certificate that it is shown, or wants one.
_OURS = ("CERTIFICATE", "UNKNOWN_CA", "DECRYPT_ERROR", "HANDSHAKE_FAILURE", "ACCESS_DENIED")


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsFiles:
    """Files (PEM) that a line is made with; empty: none."""

    setting: str  # what the names of their settings begin with: DELIVERY_AMQP
    ca: str = ""  # whose certificates are trusted
    certificate: str = ""  # what is shown to a server that asks for it
    key: str = ""  # of that certificate; empty: it lies in the same file

    def __bool__(self) -> bool:
        return bool(self.ca or self.certificate or self.key)


# What this process makes connections with, as long as it does: all are renewed by `read_again`.
_in_use: weakref.WeakKeyDictionary[ssl.SSLContext, TlsFiles] = weakref.WeakKeyDictionary()
_noting = threading.Lock()  # some are made in threads


def context_of(
    files: TlsFiles, *, public_too: bool = False, verify: bool = True, host_names: bool = True
) -> ssl.SSLContext:
    """Return what a connection is made with.

    Without a CA of its own, and with `public_too`, the CAs of the system are trusted. Raises
    ConfigurationError naming the file that can't be used.
    """
    if files.key and not files.certificate:
        raise ConfigurationError(
            f"{files.setting}_KEY is set without a certificate; set {files.setting}_CERTIFICATE"
        )
    return renewed(_made(files, public_too=public_too, verify=verify, host_names=host_names), files)


def renewed(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    """Return what was made with these files elsewhere, and is renewed with them from now on."""
    with _noting:
        _in_use[context] = files
    return context


async def read_again(setting: str) -> None:
    """Make new connections with what the files hold now; those that are open stay.

    They are read in a thread, for their disk may not answer; but what handshakes are made with
    changes on the loop, between two of them. A CA that is taken away is trusted for as long as the
    process runs. Raises ConfigurationError naming the file that can't be used; then connections are
    made with what was read before.
    """
    with _noting:
        found = [(context, files) for context, files in _in_use.items() if files.setting == setting]
    with contextlib.ExitStack() as stack:
        held = await asyncio.to_thread(_read, dict.fromkeys(files for _, files in found), stack)
        for context, files in found:
            _load(context, held[files])


def _read(all_files: Iterable[TlsFiles], stack: contextlib.ExitStack) -> dict[TlsFiles, TlsFiles]:
    """Read files, and try them; return each with what is read in memory, while `stack` is open."""
    held = {}
    for files in all_files:
        _made(files)  # first, by itself: one that took half of it would be of no use
        held[files] = replace(
            files,
            ca=_in_memory(files.ca, stack),
            certificate=_in_memory(files.certificate, stack),
            key=_in_memory(files.key, stack),
        )
        _made(held[files])  # they may just be written
    return held


def _in_memory(file: str, stack: contextlib.ExitStack) -> str:
    """Return a file in memory with what a file holds; where a system has none, that file."""
    if not file or not hasattr(os, "memfd_create"):
        return file
    copy = stack.enter_context(os.fdopen(os.memfd_create("tls"), "wb"))
    copy.write(Path(file).read_bytes())
    copy.flush()
    return f"/proc/self/fd/{copy.fileno()}"


def _made(
    files: TlsFiles, *, public_too: bool = False, verify: bool = True, host_names: bool = True
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = verify and host_names
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if verify and (public_too or not files.ca):
        context.load_default_certs()
    _load(context, files)
    return context


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    if files.ca:
        _load_ca(context, files)
    if files.certificate:
        _load_certificate(context, files)


def _load_ca(context: ssl.SSLContext, files: TlsFiles) -> None:
    name = f"{files.setting}_CA"
    _readable(name, files.ca)
    try:
        context.load_verify_locations(cafile=files.ca)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{name} names {files.ca!r}, which holds no certificate in PEM ({_reason(error)})"
        ) from None


def _load_certificate(context: ssl.SSLContext, files: TlsFiles) -> None:
    _readable(f"{files.setting}_CERTIFICATE", files.certificate)
    if files.key:
        _readable(f"{files.setting}_KEY", files.key)
    try:
        # An empty passphrase: no operator is there to be asked for one.
        context.load_cert_chain(files.certificate, files.key or None, password="")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{files.setting}_CERTIFICATE ({files.certificate!r}) and {files.setting}_KEY "
            f"({files.key or files.certificate!r}) can't be used ({_reason(error)}); both must be "
            "PEM, the key that of the certificate, and without a passphrase"
        ) from None


def _readable(setting: str, file: str) -> None:
    try:
        Path(file).open("rb").close()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(
            f"{setting} names {file!r}, which can't be read ({why}); correct the name, or give "
            "this process the right to read it"
        ) from None


def explain(error: BaseException, files: TlsFiles) -> str | None:
    """Return what of TLS has failed, and what to do about it; None when it is nothing of TLS.

    Drivers wrap what OpenSSL reports, so causes are looked through.
    """
    found = _cause(error)
    if found is None:
        return None
    if isinstance(found, ssl.SSLCertVerificationError):
        return _unverified(found, files)
    reason = _reason(found)
    if _is_about_ours(found):
        return f"the server breaks TLS off ({reason}): {_ours(files)}"
    if any(word in reason for word in _NOT_TLS):
        return f"the server does not speak TLS at this port ({reason}); correct the port"
    return f"TLS failed ({reason})"


def explain_cut(error: BaseException, files: TlsFiles) -> str:
    """Return what it may mean that a server hung up as soon as TLS was up.

    Since TLS 1.3, a server looks at our certificate when we think that all is well. It tells why it
    hangs up, but what we were just sending makes the network forget that.
    """
    return f"{type(error).__name__}: {error}; as soon as TLS was up: {_ours(files)}"


def _ours(files: TlsFiles) -> str:
    ours = f"{files.setting}_CERTIFICATE"
    if files.certificate:
        return f"it does not take the certificate of {ours}; is it of its CA, and has it expired?"
    return f"it may want a certificate; give one: {ours} and {files.setting}_KEY"


def is_cut(error: BaseException) -> bool:
    """Whether the server hung up."""
    cuts = (ConnectionResetError, BrokenPipeError, EOFError)
    return any(isinstance(cause, cuts) for cause in _chain(error))


def stays(error: BaseException) -> bool:
    """Whether certificates are the reason: trying again at once gives the same."""
    found = _cause(error)
    return found is not None and (
        isinstance(found, ssl.SSLCertVerificationError) or _is_about_ours(found)
    )


def _is_about_ours(error: ssl.SSLError) -> bool:
    reason = _reason(error)
    return "ALERT" in reason and any(word in reason for word in _OURS)


def _cause(error: BaseException) -> ssl.SSLError | None:
    """Return OpenSSL's own error; aiohttp's have its class, too, but not its reason."""
    for cause in _chain(error):
        wraps = hasattr(cause, "certificate_error") or hasattr(cause, "os_error")
        if isinstance(cause, ssl.SSLError) and not wraps:
            return cause
    return None


def _unverified(error: ssl.SSLCertVerificationError, files: TlsFiles) -> str:
    reason = error.verify_message
    if error.verify_code == _EXPIRED:
        return f"the server's certificate is not good ({reason}); renew it there"
    if error.verify_code == _NOT_YET_VALID:
        return f"the server's certificate is not good ({reason}); is a clock wrong?"
    if error.verify_code in _OTHER_NAME:
        return (
            f"the server's certificate is for another name ({reason}); use a name that it is for, "
            "or give the server a certificate for this one"
        )
    return (
        f"the server's certificate is not of a CA that is trusted here ({reason}); give its CA: "
        f"{files.setting}_CA"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Iterate over an error and what led to it."""
    met: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop()
        if not isinstance(cause, BaseException) or id(cause) in met:
            continue
        met.add(id(cause))
        yield cause
        # aiohttp and botocore keep their causes in attributes and arguments.
        kept = getattr(cause, "kwargs", None)
        waiting += [
            cause.__cause__,
            cause.__context__,
            getattr(cause, "os_error", None),
            getattr(cause, "certificate_error", None),
            kept.get("error") if isinstance(kept, dict) else None,
            *getattr(cause, "exceptions", ()),
            *cause.args,
        ]


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or getattr(error, "strerror", None) or error or type(error).__name__)
