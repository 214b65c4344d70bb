"""Profiles are kept from others, and what lets in is sent to no other address."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from rs_delivery_client import ProfileError
from rs_delivery_client.cli import cli
from rs_delivery_client.cli.place import Given, Where, checked_token, checked_url
from rs_delivery_client.profiles import Profile, Profiles

URL = "https://delivery.example.org"
OTHER = "https://other.example.org"
KEPT = Profile(name="site", url=URL, token="kept")


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profiles:
    """None yet, and no keyring."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    return Profiles(tmp_path / "folder" / "profiles.json")


class KeyringError(Exception):
    """A keyring's own."""


class Keyring:
    """The library for the system's keyring, with one in memory."""

    errors = SimpleNamespace(KeyringError=KeyringError, PasswordDeleteError=KeyringError)

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], str] = {}
        self.works = True
        self.refuses: str | None = None  # what is called so

    def set_password(self, service: str, name: str, password: str) -> None:
        if not self.works or name == self.refuses:
            raise KeyringError("there is no backend")
        self.held[service, name] = password

    def get_password(self, service: str, name: str) -> str | None:
        return self.held.get((service, name))

    def delete_password(self, service: str, name: str) -> None:
        if self.held.pop((service, name), None) is None:
            raise KeyringError("there is none")


@pytest.fixture
def keyring(profiles: Profiles, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    """A keyring that is installed."""
    made = Keyring()
    monkeypatch.setitem(sys.modules, "keyring", made)
    return made


def test_a_token_is_kept_where_no_other_user_reads(profiles: Profiles) -> None:
    profiles.keep(KEPT)
    assert profiles.path.stat().st_mode & 0o777 == 0o600
    assert profiles.path.parent.stat().st_mode & 0o077 == 0
    assert profiles.find() == KEPT
    assert "kept" not in repr(KEPT)
    assert [path.name for path in profiles.path.parent.iterdir()] == ["profiles.json"]


def test_a_file_with_tokens_that_others_may_read_is_refused(profiles: Profiles) -> None:
    profiles.keep(KEPT)
    profiles.path.chmod(0o644)
    with pytest.raises(ProfileError, match="others may read the tokens"):
        profiles.find()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"profiles": {"a": {}}}', "[" * 100_000])
def test_a_damaged_file_is_told(profiles: Profiles, text: str) -> None:
    profiles.keep(KEPT)
    profiles.path.write_text(text)
    with pytest.raises(ProfileError, match="is damaged"):
        profiles.find()


def test_the_first_profile_is_the_default_until_another_is_chosen(profiles: Profiles) -> None:
    assert profiles.find() is None
    profiles.keep(KEPT)
    profiles.keep(Profile(name="other", url=OTHER, token="its"))
    assert profiles.default == "site"
    profiles.choose("other")
    assert profiles.default == "other"
    with pytest.raises(ProfileError, match="there is no profile 'none'"):
        profiles.choose("none")
    with pytest.raises(ProfileError, match="letters, digits"):
        profiles.keep(Profile(name="a b", url=URL))


def test_signing_out_leaves_the_address(profiles: Profiles) -> None:
    profiles.keep(KEPT)
    profiles.sign_out(KEPT)
    assert profiles.all() == [Profile(name="site", url=URL)]
    assert "kept" not in profiles.path.read_text()


def test_a_token_in_the_keyring_is_not_in_the_file(profiles: Profiles, keyring: Keyring) -> None:
    kept = profiles.keep(KEPT)
    assert (kept.in_keyring, kept.token) == (True, None)
    assert json.loads(profiles.path.read_text())["profiles"] == {
        "site": {"url": URL, "keyring": True}
    }
    assert profiles.token_of(kept) == "kept"
    profiles.sign_out(kept)
    assert keyring.held == {}


def test_what_a_token_is_renewed_by_is_where_the_token_is(
    profiles: Profiles, keyring: Keyring
) -> None:
    kept = profiles.keep(replace(KEPT, refresh="by"))
    assert (kept.renews, kept.refresh, profiles.refresh_of(kept)) == (True, None, "by")
    assert profiles.find() == kept
    assert "by" not in profiles.path.read_text()
    profiles.keep(KEPT)
    found = profiles.find()
    assert found is not None
    assert (found.renews, len(keyring.held)) == (False, 1)
    in_file = profiles.keep(replace(KEPT, refresh="by"), keyring=False)
    assert (keyring.held, profiles.refresh_of(in_file)) == ({}, "by")
    assert "by" not in repr(in_file)
    profiles.sign_out(in_file)
    assert "by" not in profiles.path.read_text()


def test_a_keyring_that_refuses_leaves_the_file_unless_it_was_asked_for(
    profiles: Profiles, keyring: Keyring
) -> None:
    keyring.works = False
    assert profiles.keep(KEPT).token == "kept"
    with pytest.raises(ProfileError, match="the keyring refuses: there is no backend"):
        profiles.keep(KEPT, keyring=True)
    assert not profiles.keep(KEPT, keyring=False).in_keyring


def test_a_keyring_that_takes_half_keeps_no_way_in_beside_the_token_of_another(
    profiles: Profiles, keyring: Keyring
) -> None:
    keyring.refuses = "site"
    with pytest.raises(ProfileError, match="the keyring refuses"):
        profiles.keep(replace(KEPT, refresh="by"), keyring=True)
    assert keyring.held == {}
    assert profiles.keep(replace(KEPT, refresh="by")).refresh == "by"
    assert keyring.held == {}


@pytest.mark.parametrize("in_keyring", [False, True])
def test_a_renewal_is_kept_only_in_the_place_of_what_was_used(
    profiles: Profiles, keyring: Keyring, in_keyring: bool
) -> None:
    kept = profiles.keep(replace(KEPT, refresh="1"), keyring=in_keyring)
    assert profiles.renew(kept, "1", token="second", refresh="2")
    found = profiles.find()
    assert found is not None
    assert (profiles.token_of(found), profiles.refresh_of(found)) == ("second", "2")
    assert not profiles.renew(kept, "1", token="third", refresh="3")
    profiles.keep(Profile(name="site", url=URL, token="other's"), keyring=in_keyring)
    assert not profiles.renew(kept, "2", token="third", refresh="3")
    profiles.sign_out(found)
    assert not profiles.renew(kept, "2", token="third", refresh="3")
    assert profiles.all() == [Profile(name="site", url=URL)]
    assert keyring.held == {}


def test_a_renewal_that_a_keyring_takes_half_of_keeps_the_way_to_the_next(
    profiles: Profiles, keyring: Keyring
) -> None:
    kept = profiles.keep(replace(KEPT, refresh="1"), keyring=True)
    keyring.refuses = "site"
    with pytest.raises(ProfileError, match="the keyring refuses"):
        profiles.renew(kept, "1", token="second", refresh="2")
    assert (profiles.token_of(kept), profiles.refresh_of(kept)) == ("kept", "2")


def test_programs_that_sign_in_at_once_are_all_kept(profiles: Profiles) -> None:
    """Each is between its reading and its writing while the others begin."""
    many = range(8)

    def sign_in(number: int) -> None:
        Profiles(profiles.path).keep(Profile(name=f"site-{number}", url=URL, token=f"{number}"))

    with ThreadPoolExecutor(len(many)) as pool:
        list(pool.map(sign_in, many))
    assert {(kept.name, kept.token) for kept in profiles.all()} == {
        (f"site-{number}", f"{number}") for number in many
    }


def test_a_program_waits_for_the_one_that_is_writing(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the lock that it holds on the folder."""
    profiles.keep(KEPT)
    handle = os.open(profiles.path.parent, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    at_the_lock, lock = threading.Event(), fcntl.flock

    def told(held: int, how: int) -> None:
        at_the_lock.set()
        lock(held, how)

    monkeypatch.setattr(fcntl, "flock", told)
    with ThreadPoolExecutor(1) as pool:
        choosing = pool.submit(profiles.keep, Profile(name="other", url=OTHER, token="its"))
        assert at_the_lock.wait(30)
        profiles.path.write_text(json.dumps({"profiles": {"new": {"url": URL}}}))
        assert not choosing.done()
        os.close(handle)
        choosing.result()
    assert [kept.name for kept in profiles.all()] == ["new", "other"]


def test_a_link_to_the_file_stays_one(profiles: Profiles, tmp_path: Path) -> None:
    """As those have it who keep their settings elsewhere."""
    target = tmp_path / "dotfiles" / "profiles.json"
    profiles.path.parent.mkdir()
    profiles.path.symlink_to(target)
    profiles.keep(KEPT)
    profiles.choose("site")
    assert profiles.path.is_symlink()
    assert profiles.find() == KEPT
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["profiles.json"]


def resolved(profiles: Profiles, **given: Given) -> tuple[str, str | None]:
    """Return where a call goes, and with what."""
    with click.Context(cli, info_name="rs-delivery"):
        place = Where(**given).place(profiles)  # type: ignore[arg-type]
    return place.url, place.token


def in_call(value: str) -> Given:
    return Given(value=value, in_call=True)


def test_an_option_goes_before_the_environment_and_that_before_a_profile(
    profiles: Profiles,
) -> None:
    profiles.keep(KEPT)
    profiles.keep(Profile(name="other", url=OTHER, token="its"))
    anywhere = {"url": Given(value="https://env"), "token": Given(value="env")}
    assert resolved(profiles) == (URL, "kept")
    assert resolved(profiles, profile=Given(value="other")) == (OTHER, "its")
    assert resolved(profiles, **anywhere) == ("https://env", "env")
    assert resolved(profiles, **anywhere, profile=in_call("other")) == (OTHER, "its")
    assert resolved(profiles, **anywhere | {"url": in_call(URL)}) == (URL, "env")
    assert resolved(profiles, token=in_call("mine")) == (URL, "mine")


def test_the_token_of_a_profile_goes_to_no_other_address(profiles: Profiles) -> None:
    profiles.keep(KEPT)
    assert resolved(profiles, url=in_call(OTHER)) == (OTHER, None)
    assert resolved(profiles, url=Given(value=OTHER)) == (OTHER, None)
    assert resolved(profiles, url=in_call(OTHER), profile=in_call("site")) == (OTHER, None)
    assert resolved(profiles, url=in_call(f"{URL}/")) == (f"{URL}/", "kept")


def test_the_token_of_the_environment_does_not_go_to_a_profile_that_is_named(
    profiles: Profiles,
) -> None:
    profiles.keep(Profile(name="site", url=URL, token=None))
    named = Given(value="site", in_call=True)
    where = Where(url=Given(value=OTHER), token=Given(value="other's"), profile=named)
    place = where.place(profiles)
    assert (place.url, place.token) == (URL, None)


def test_a_token_that_is_replaced_is_left_in_no_keyring(
    profiles: Profiles, keyring: Keyring
) -> None:
    profiles.keep(KEPT)
    profiles.keep(replace(KEPT, url=OTHER, token="moved"))
    assert list(keyring.held.values()) == ["moved"]
    profiles.keep(replace(KEPT, url=OTHER), keyring=False)
    assert keyring.held == {}


def test_where_nothing_is_said_the_way_to_say_it_is_told(profiles: Profiles) -> None:
    with pytest.raises(click.UsageError, match="once by `rs-delivery login`"):
        resolved(profiles)
    with pytest.raises(click.ClickException, match="there is no profile 'none'"):
        resolved(profiles, profile=in_call("none"))


@pytest.mark.parametrize(
    "url",
    [
        *("delivery.example.org", "ftp://x", "http://", "http://x:99999", "http://x y"),
        *("http://u:p@x", "http://x/?a=b", "http://x/#a", "http://[::1"),
    ],
)
def test_what_is_no_address_is_a_mistake(url: str) -> None:
    with pytest.raises(click.UsageError):
        checked_url(url)


@pytest.mark.parametrize("token", ["x y", "x\ny", "é", "x\x00"])
def test_what_is_no_token_is_a_mistake_that_does_not_show_it(token: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        checked_token(token)
    assert token not in refused.value.message


def test_where_there_are_no_locks_it_goes_on_without_and_says_so(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    told: list[str] = []
    Profiles(profiles.path, tell=told.append).keep(KEPT)
    assert profiles.find() == KEPT
    (said,) = told
    assert said.startswith(f"{profiles.path.parent} can't be locked (operation not supported): ")


def test_a_folder_that_can_not_be_opened_for_a_lock_is_no_traceback(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that its owner may enter and write to, and not list."""
    profiles.keep(KEPT)

    def refuse(place: Any, *more: Any, **options: Any) -> int:
        if Path(str(place)) == profiles.path.parent:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(place, *more, **options)

    opened = os.open
    monkeypatch.setattr(os, "open", refuse)
    told: list[str] = []
    Profiles(profiles.path, tell=told.append).choose("site")
    assert len(told) == 1


def test_reading_needs_no_lock(profiles: Profiles, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles.keep(KEPT)
    monkeypatch.delattr(fcntl, "flock")
    assert profiles.find() == KEPT
    assert profiles.token_of(KEPT) == "kept"
