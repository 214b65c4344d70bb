"""Profiles: the services that a user signs in to, each with what lets them in.

They are in one file that no other user reads, `~/.config/rs-delivery/profiles.json`; a token is
there, or in the keyring of the system. A token is given to the address alone that it was kept for.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from rs_delivery_client.errors import ProfileError

DEFAULT_NAME = "default"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_OTHERS = 0o077  # bits of a file's mode that let others at it


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A service, as one user may use it."""

    name: str
    url: str
    token: str | None = field(default=None, repr=False)  # None: signed out, or in the keyring
    in_keyring: bool = False
    # By which an identity provider gives another token; None: there is none, or it is elsewhere.
    refresh: str | None = field(default=None, repr=False)
    renews: bool = False  # there is one, here or in the keyring

    def is_of(self, url: str) -> bool:
        """Whether an address is that of this profile."""
        return self.url.rstrip("/") == url.rstrip("/")


def default_path() -> Path:
    """Return where profiles are; `DELIVERY_PROFILES` says otherwise. Raises ProfileError."""
    chosen = os.environ.get("DELIVERY_PROFILES")
    if chosen:
        return Path(chosen)
    try:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    except RuntimeError:  # a user that the system does not know, as in some containers
        raise ProfileError(
            "there is no home folder to keep profiles in: say where, by DELIVERY_PROFILES"
        ) from None
    return Path(base) / "rs-delivery" / "profiles.json"


class Profiles:
    """The profiles of a file. Raises ProfileError where it is damaged, or open to others."""

    def __init__(
        self, path: Path | None = None, *, tell: Callable[[str], None] | None = None
    ) -> None:
        """Take their place, and what is told of what is no error."""
        self._path = path
        self._tell = tell

    @property
    def path(self) -> Path:
        """The file."""
        return self._path or default_path()

    def all(self) -> list[Profile]:
        """Return them by name, without the tokens that are in the keyring."""
        return [
            Profile(
                name=name,
                url=str(entry["url"]),
                token=entry.get("token"),
                in_keyring=bool(entry.get("keyring")),
                refresh=entry.get("refresh"),
                renews=bool(entry.get("renews")),
            )
            for name, entry in sorted(self._read()["profiles"].items())
        ]

    @property
    def default(self) -> str | None:
        """The name of the one that is used where none is named."""
        chosen = self._read().get("default")
        return chosen if isinstance(chosen, str) else None

    def find(self, name: str | None = None) -> Profile | None:
        """Return a profile, or the default one; None: there is none that is called so."""
        wanted = self.default if name is None else name
        return next((profile for profile in self.all() if profile.name == wanted), None)

    def token_of(self, profile: Profile) -> str | None:
        """Return what lets its user in, from wherever it is."""
        return _secret(profile, profile.name) if profile.in_keyring else profile.token

    def refresh_of(self, profile: Profile) -> str | None:
        """Return what another token is had by, from wherever it is; None: there is none."""
        if not (profile.renews and profile.in_keyring):
            return profile.refresh
        return _secret(profile, _refresh_name(profile))

    @contextlib.contextmanager
    def renewing(self) -> Iterator[None]:
        """Wait until no other program gets another token: providers take a refresh token once."""
        folder = Path(os.path.realpath(self.path)).parent
        with _alone_in(folder / ".renewing", self._tell, flags=os.O_RDWR | os.O_CREAT):
            yield

    def keep(self, profile: Profile, *, keyring: bool | None = None) -> Profile:
        """Keep a profile, and return it as it is kept; the first one is the default.

        Its token goes into the keyring if `keyring`, into the file if not; None: into the keyring
        where there is one that works.
        """
        if not _NAME.fullmatch(profile.name):
            raise ProfileError(
                f"a profile is called by up to 64 letters, digits and _.-, not {profile.name!r}"
            )
        profile = replace(profile, renews=profile.refresh is not None)
        with self._changing() as content:
            kept = self._placed_anywhere(profile, keyring) if profile.token else profile
            before = self.find(kept.name)
            if before is not None and not (kept.in_keyring and before.is_of(kept.url)):
                _forget(before)
            elif before is not None and not kept.renews:
                _forget(before, refresh_alone=True)
            content["profiles"][kept.name] = _entry(kept)
            content.setdefault("default", kept.name)
        return kept

    def renew(self, profile: Profile, used: str, *, token: str, refresh: str) -> bool:
        """Keep what `used` was given in exchange for, where that is what is kept still.

        Return whether it is: its user may have signed out meanwhile, or another one in.
        """
        with self._changing() as content:
            now = self.find(profile.name)
            if now is None or not now.is_of(profile.url) or self.refresh_of(now) != used:
                return False
            kept = _placed(replace(now, token=token, refresh=refresh), keyring=now.in_keyring)
            content["profiles"][now.name] = _entry(kept)
            return True

    def choose(self, name: str) -> None:
        """Make one the default."""
        with self._changing() as content:
            if name not in content["profiles"]:
                raise ProfileError(f"there is no profile {name!r} in {self.path}")
            content["default"] = name

    def sign_out(self, profile: Profile) -> None:
        """Forget what lets its user in; the address stays."""
        with self._changing() as content:
            _forget(profile)
            content["profiles"][profile.name] = {"url": profile.url}

    def _placed_anywhere(self, profile: Profile, keyring: bool | None) -> Profile:
        """Place what lets a user in; in the file, where a keyring refuses that need not be it."""
        try:
            return _placed(profile, keyring=has_keyring() if keyring is None else keyring)
        except ProfileError:
            if profile.refresh is not None:  # which may be there, beside the token of another user
                with contextlib.suppress(ProfileError):
                    _forget(replace(profile, in_keyring=True))
            if keyring:
                raise
            return replace(profile, in_keyring=False)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """Give what the file holds, and write it when the block ends: one program at a time."""
        place = Path(os.path.realpath(self.path))  # of a link, the file that it leads to
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ProfileError(f"can't write {self.path}: {error.strerror}") from None
        with _alone_in(place.parent, self._tell):
            content = self._read()
            before = copy.deepcopy(content)
            yield content
            if content != before:
                self._write(place, content)

    def _read(self) -> dict[str, Any]:
        try:
            with self.path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = json.loads(file.read())
        except FileNotFoundError:
            return {"profiles": {}}
        except OSError as error:
            raise ProfileError(f"can't read {self.path}: {error.strerror}") from None
        except (ValueError, RecursionError):
            content = None
        found = content.get("profiles") if isinstance(content, dict) else None
        if not isinstance(found, dict) or not all(map(_is_entry, found.values())):
            raise ProfileError(f"{self.path} is damaged: remove it, and sign in again")
        has_token = any("token" in entry for entry in found.values())
        if os.name == "posix" and mode & _OTHERS and has_token:
            raise ProfileError(f"others may read the tokens in {self.path}: chmod 600 {self.path}")
        return dict(content)

    def _write(self, place: Path, content: dict[str, Any]) -> None:
        """Put the file in the place of the one before: it is whole at any moment."""
        try:
            # Readable for its owner alone from the first byte.
            number, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
            try:
                with os.fdopen(number, "w", encoding="utf-8") as file:
                    json.dump(content, file, ensure_ascii=False, indent=2)
                    file.write("\n")
                Path(name).replace(place)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ProfileError(f"can't write {self.path}: {error.strerror}") from None


@contextlib.contextmanager
def _alone_in(
    place: Path, tell: Callable[[str], None] | None, *, flags: int = os.O_RDONLY
) -> Iterator[None]:
    """Wait until no other program changes what is in a folder, on systems that can tell.

    Where there are no locks it goes on without: over NFS, or in a folder that may not be listed.
    """
    try:
        fcntl: Any = import_module("fcntl")
    except ImportError:
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            handle = os.open(place, flags, 0o600)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if tell is not None:
                why = (error.strerror or str(error)).lower()
                tell(f"{place} can't be locked ({why}): let no other program sign in just now")
        yield


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("url"), str)
        and isinstance(entry.get("token", ""), str)
        and isinstance(entry.get("refresh", ""), str)
    )


def _entry(kept: Profile) -> dict[str, Any]:
    """Return what the file has of a profile."""
    entry: dict[str, Any] = {"url": kept.url}
    entry |= {"keyring": True} if kept.in_keyring else {}
    entry |= {} if kept.token is None else {"token": kept.token}
    entry |= {"renews": True} if kept.renews else {}
    entry |= {} if kept.refresh is None else {"refresh": kept.refresh}
    return entry


def _placed(profile: Profile, *, keyring: bool) -> Profile:
    """Place what lets its user in, and return what the file has of it. Raises ProfileError."""
    if not keyring:
        return replace(profile, in_keyring=False)
    with _keyring_errors():
        # First the refresh token: the one before is used up, so this is the only way on.
        if profile.refresh is not None:
            name = _refresh_name(profile)
            _keyring().set_password(_service(profile), name, profile.refresh)
        _keyring().set_password(_service(profile), profile.name, profile.token)
    return replace(profile, token=None, refresh=None, in_keyring=True)


def has_keyring() -> bool:
    """Whether the library for the system's keyring is installed."""
    try:
        import_module("keyring")
    except ImportError:
        return False
    return True


def _keyring() -> Any:
    try:
        return import_module("keyring")
    except ImportError:
        raise ProfileError(
            "the token is in the keyring, and the library for it is not installed: "
            "pip install 'rs-delivery-client[keyring]', or sign in again"
        ) from None


def _secret(profile: Profile, name: str) -> str | None:
    with _keyring_errors():
        found = _keyring().get_password(_service(profile), name)
    return None if found is None else str(found)


def _refresh_name(profile: Profile) -> str:
    """Return what the keyring has a refresh token under: no profile can be called so."""
    return f"{profile.name} refresh"


def _forget(profile: Profile, *, refresh_alone: bool = False) -> None:
    """Remove what lets its user in from the keyring, where it is in that."""
    if not profile.in_keyring:
        return
    keyring = _keyring()
    names = [] if refresh_alone else [profile.name]
    names += [_refresh_name(profile)] if profile.renews else []
    for name in names:
        with _keyring_errors(), contextlib.suppress(keyring.errors.PasswordDeleteError):
            keyring.delete_password(_service(profile), name)


@contextlib.contextmanager
def _keyring_errors() -> Iterator[None]:
    keyring = _keyring()
    try:
        yield
    except keyring.errors.KeyringError as error:
        raise ProfileError(f"the keyring refuses: {error}") from None


def _service(profile: Profile) -> str:
    """Return what the keyring knows it by: a changed address finds no token."""
    return f"rs-delivery {profile.url.rstrip('/')}"
