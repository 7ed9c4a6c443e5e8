"""By which profile somebody is to log in: what the file says and the options add, and where the session is kept.

What may be changed, and what not, is in rule 4 of `_login`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from httpx_tokenflow import ConfigurationError, StoreError
from httpx_tokenflow._errors import DamagedEntry

from ._plainly import in_words, say
from ._profile_file import ENDPOINTS, check_name, read_config, shown
from ._profiles import Profile, has_keyring, load_profile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["check_grant", "settle", "with_store"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # of a new profile: easy to type, to complete and to quote


def settle(
    name: str, path: Path, asked: Mapping[str, Any], *, by_device: bool, may_change: bool
) -> tuple[Profile, dict[str, Any]]:
    """The profile to log in by, and what is to be written into the file for it (rule 4 of `_login`)."""
    profiles = read_config(path)
    if name not in profiles:
        if not asked:
            load_profile(name, path)  # which says what there is
        if not _NAME.fullmatch(name):
            check_name(name)
            raise ConfigurationError("a profile's name has letters, digits, dots, dashes and underscores, 64 at most")
        made = {**({"grant": "device_code"} if by_device else {}), **asked}
        return Profile.of(name, path, made, is_new=True), made
    said = profiles[name]
    before = Profile.of(name, path, said)
    changes = {key: value for key, value in asked.items() if _words(said.get(key)) != _words(value)}
    if contrary := _contrary(said, changes):
        raise ConfigurationError(
            f"the profile {name} in {path} says {', '.join(contrary)}, and with issuer no endpoint is named: remove "
            f"{'these lines' if len(contrary) > 1 else 'that line'} there first, or take --profile NAME for another"
        )
    for key in said.keys() & changes.keys() if not may_change else ():
        raise ConfigurationError(
            f"the profile {name} in {path} says {key} = {shown(said[key])}, and not {shown(changes[key])}: add "
            "--update to change it, or --profile NAME for another"
        )
    after = before.having(**changes)
    is_other = (after.fingerprint, after.settings.get("store")) != (before.fingerprint, before.settings.get("store"))
    if changes and is_other and not before.is_for_client and _has_session(before, changes):
        raise ConfigurationError(
            f"somebody is logged in with the profile {name} as it is: first {before.how_to('logout')}; "
            "or --profile NAME for another"
        )
    return after, changes


def check_grant(grant: str | None, *, by_device: bool) -> None:
    """Nothing, if --device and the grant agree."""
    if by_device and grant not in {None, "device_code"}:
        raise ConfigurationError(f"--device and the grant {grant} contradict each other: leave one out")


def _contrary(said: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
    """The keys that a profile may not have any more if `changes` are made."""
    if "issuer" in changes:
        return [key for key in ENDPOINTS if key in said]
    return ["issuer"] if "issuer" in said and changes.keys() & set(ENDPOINTS) else []


def _has_session(before: Profile, changes: Mapping[str, Any]) -> bool:
    """Whether somebody is logged in by a profile that is to be changed."""
    try:
        return before.stored() is not None
    except DamagedEntry:
        return False
    except StoreError as error:
        if changes.keys() != {"store"}:
            raise
        say(f"{in_words(error)}. What session it may hold is left in it")
        return False


def _words(value: Any) -> Any:
    """A value as it counts: a list of words is those words in a row."""
    return " ".join(value) if isinstance(value, list) else value


def with_store(profile: Profile) -> tuple[Profile, dict[str, Any]]:
    """The profile with a store that works, and what is to be written of that."""
    if "store" in profile.settings:
        profile.probe()
        return profile, {}
    why = "there is none here"
    if has_keyring():
        try:
            tried = profile.having(store="keyring")
            tried.probe()
        except StoreError as error:
            why = in_words(error)
        else:
            return tried, {"store": "keyring"}
    say(f'the keyring does not work ({why}): the tokens are kept in a file that only you can read (store = "file")')
    instead = profile.having(store="file")
    instead.probe()
    return instead, {"store": "file"}
