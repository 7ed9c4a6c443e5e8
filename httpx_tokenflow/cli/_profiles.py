"""Profiles: which server, which client, for what, and where the tokens are kept; in a TOML file that people write.

    [profiles.default]
    issuer = "https://auth.example.com"
    client_id = "my-tool"
    scope = "openid offline_access read"

Rules.

1. A session belongs to the profile's name (or to its `subject`), its server, its client and what is asked for; not to
   the way in which it was opened. So who has logged in by a device code has the same session as by a browser. A
   program shares it by ``AuthorizationCode(issuer=…, client_id=…, scope=…, subject="default", open_browser=False)``
   with the same store.
2. What a profile's `TokenAuth` needs a person for, it refuses, and says how to log in: nobody's script opens a browser.
3. Nothing is renewed aside: a process that ends at once would tear the renewal, and with it the session.
4. Without `store` it is the keyring where one works, or else a file. `tokenflow login` tries it, says so, and writes
   down which it was: a job without a desktop must not look for the session elsewhere than the person who logged in.
"""

from __future__ import annotations

import difflib
import shlex
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from httpx_tokenflow import (
    ConfigurationError,
    ReauthenticationRequired,
    RenewalPolicy,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenFlowError,
)
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._errors import DamagedEntry
from httpx_tokenflow._token_auth import fingerprint

from ._kept import kept_by, login_by_code, login_by_device
from ._profile_file import (
    GRANTS,
    check_name,
    check_settings,
    config_path,
    own_path,
    read_config,
    shown,
)
from ._signals import held, hold_in_lease

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from httpx_tokenflow import Token
    from httpx_tokenflow.events import Event
    from httpx_tokenflow.stores import FileStore, KeyringStore

    from ._kept import Kept, Login

__all__ = ["Profile", "has_keyring", "load_profile", "profile_names"]

_POLICY = RenewalPolicy(early_window=0.0)  # rule 3
_PROBE = "probe"  # the name of an entry that is written only to see whether one can


def profile_names(config: Path | None = None) -> list[str]:
    """The names of the profiles, in the order of the file.

    Raises:
        ConfigurationError: as `read_config`.
    """
    return list(read_config(config_path(config)))


def load_profile(name: str = "default", config: Path | None = None) -> Profile:
    """The profile of that name.

    Args:
        name: of the profile.
        config: the file; None: the one of TOKENFLOW_CONFIG, or of the user's configuration directory.

    Raises:
        ConfigurationError: there is none, or something in it is wrong; says which file, profile and key.
    """
    path = config_path(config)
    check_name(name)
    profiles = read_config(path)
    if name in profiles:
        return Profile.of(name, path, profiles[name])
    where = f"there is no profile {shown(name)} in {path}"
    if close := difflib.get_close_matches(name, profiles, 1):
        raise ConfigurationError(f"{where}: did you mean {shown(close[0])}? It has {shown(*profiles)}")
    there = f" (there is {shown(*profiles)})" if profiles else ""
    how = _command("login", name, path)
    raise ConfigurationError(f"{where}{there}: make it with {how} --issuer https://… --client-id …")


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile, of which everything has been checked.

    Attributes:
        name: of the profile.
        path: the file that it is in.
        settings: its keys and values, as they are in the file.
    """

    name: str
    path: Path
    settings: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, name: str, path: Path, settings: Mapping[str, Any], *, is_new: bool = False) -> Profile:
        """A profile of these settings; `is_new`: the file does not have them yet, or does not say them so.

        Raises:
            ConfigurationError: one of them cannot be.
        """
        check_name(name)
        profile = cls(name, path, settings)
        where = f"the profile {shown(name)} by these options" if is_new else f"{path}, profile {shown(name)}"
        check_settings(where, settings)
        try:
            profile.grant()
            if not profile.is_for_client:
                profile.login(by_device=profile.kind == "device_code")
        except TokenFlowError as error:
            raise ConfigurationError(f"{where}: {error}") from None
        return profile

    @property
    def kind(self) -> str:
        """The name of its grant."""
        return str(self.settings.get("grant", GRANTS[0]))

    @property
    def is_for_client(self) -> bool:
        """Whether nobody logs in: the client has tokens in its own name."""
        return self.kind == "client_credentials"

    @property
    def server(self) -> str:
        """The issuer, or the host whose endpoints are named."""
        issuer = self.settings.get("issuer")
        return str(issuer) if issuer else urlsplit(self.settings["token_endpoint"]).netloc

    @property
    def how_to_log_in(self) -> str:
        """The command to type."""
        return self.how_to("login")

    def how_to(self, command: str) -> str:
        """A command with this profile, to type."""
        return _command(command, self.name, self.path)

    @property
    def store_kind(self) -> str:
        """Where tokens are kept: "keyring" or "file" (rule 4)."""
        return str(self.settings.get("store") or ("keyring" if has_keyring() else "file"))

    def having(self, **settings: Any) -> Profile:
        """The same profile with other settings; checked.

        Raises:
            ConfigurationError: one of them cannot be.
        """
        return Profile.of(self.name, self.path, {**self.settings, **settings}, is_new=True)

    def store(self) -> FileStore | KeyringStore:
        """Where its tokens are kept.

        Raises:
            ConfigurationError: an extra is missing.
        """
        if self.store_kind == "file":
            from httpx_tokenflow.stores import FileStore

            return FileStore()
        from httpx_tokenflow.stores import KeyringStore

        return KeyringStore()

    def grant(self) -> Kept:
        """What keeps its tokens going; it never logs anybody in (rule 2)."""
        told = f"nobody is logged in, or the session has ended: run {self.how_to_log_in}"
        return kept_by(self.settings, name=self.name, folder=self.path.parent, told=told)

    def login(
        self,
        *,
        by_device: bool,
        open_browser: Callable[[str], Any] | None = None,
        on_prompt: Callable[[Any], Any] | None = None,
    ) -> Login:
        """A grant that logs somebody in: by a browser on this machine, or by a code for another device."""
        login = login_by_device if by_device else login_by_code
        ask = on_prompt if by_device else open_browser
        return login(self.settings, ask, name=self.name, folder=self.path.parent)

    def auth(self, *, on_event: Callable[[Event], object] | None = None) -> TokenAuth:
        """An `auth=` that renews, and never logs in: it raises `ReauthenticationRequired`, which says how to."""
        return TokenAuth(self.grant(), store=hold_in_lease(self.store()), policy=_POLICY, on_event=on_event)

    def token(
        self,
        *,
        on_event: Callable[[Event], object] | None = None,
        on_loss: Callable[[str], object] | None = None,
    ) -> Token:
        """A token that is not due, renewed under the lease if need be.

        Args:
            on_event: as for `TokenAuth`.
            on_loss: is told, in words, that the store did not take the next refresh token: with this process it goes.

        Raises:
            ReauthenticationRequired: somebody has to log in; says how.
            TokenFlowError: there is none, and none is to be had now.
        """
        with self.auth(on_event=on_event) as auth:
            try:
                token = auth.token()
            except ReauthenticationRequired as error:
                if self.is_for_client or "tokenflow login" in str(error):
                    raise
                raise self._ended(error) from error
            except TokenEndpointUnavailable as error:
                if self.is_for_client or error.outcome != "unknown":
                    raise
                raise self._perhaps_spent(error) from error
        if on_loss is not None and _is_lost(auth):
            on_loss(f"the session ends with this token, as its refresh token was not kept: then {self.how_to_log_in}")
        return token

    def leave(self, *, on_event: Callable[[Event], object] | None = None) -> str | None:
        """Give the session up, here and at the server. None: the server agreed; or why it did not."""
        grant = self.grant()
        with TokenAuth(grant, store=hold_in_lease(self.store()), policy=_POLICY, on_event=on_event) as auth, held():
            return None if auth.revoke() else grant.why_not

    def _ended(self, error: TokenFlowError) -> ReauthenticationRequired:
        names = ("status", "error", "error_description", "error_uri")
        facts = {name: getattr(error, name, None) for name in names}
        return ReauthenticationRequired(f"the session has ended ({error}): run {self.how_to_log_in}", **facts)

    def _perhaps_spent(self, error: TokenEndpointUnavailable) -> TokenFlowError:
        """What it means that the refresh token has left, and that nobody has seen an answer."""
        entry = self.stored()
        if entry is not None and entry.is_spent:
            return self._ended(error)
        facts: Any = {name: getattr(error, name) for name in ("outcome", "retry_after", "status", "retryable")}
        return TokenEndpointUnavailable(
            f"{error}; the server may have spent the refresh token all the same: it is sent once more, and if that "
            "answer is lost too, or a refusal, somebody has to log in again",
            **facts,
        )

    @property
    def fingerprint(self) -> str:
        """The key of its tokens in the store."""
        return fingerprint(self.grant(), None)

    def stored(self) -> Entry | None:
        """What the store holds, without asking anybody else; None: nothing, or what is left of a logout.

        Raises:
            StoreError: it cannot be read.
        """
        entry = self.store().load(self.fingerprint)
        return None if entry is None or entry.is_mark else entry

    def probe(self) -> None:
        """Nothing, if its store can be written, read, and cleared.

        Raises:
            StoreError: it cannot.
        """
        store, probe = self.store(), Entry.mark(time.time(), "")
        try:
            held = store.load(_PROBE)
        except DamagedEntry:
            self._discard(_PROBE)
            held = None
        if store.save(
            _PROBE, probe, replaces=None if held is None else held.fence
        ):  # or else somebody else has, at the same time
            store.load(_PROBE)
            store.delete(_PROBE, fence=probe.fence)

    def discard(self) -> None:
        """Forget what the store holds, also if it is damaged; nobody else is told.

        Raises:
            StoreError: it cannot be.
        """
        self._discard(self.fingerprint)

    def _discard(self, fingerprint: str) -> None:
        self.store()._discard(fingerprint)  # noqa: SLF001 - for us alone


def has_keyring() -> bool:
    """Whether there is a keyring to try; nothing is read from it, and nobody asked to unlock it."""
    import keyring
    from keyring.backends import fail, null

    try:
        return not isinstance(keyring.get_keyring(), fail.Keyring | null.Keyring)
    except Exception:  # noqa: BLE001 - PYTHON_KEYRING_BACKEND may name anything
        return False


def _is_lost(auth: TokenAuth) -> bool:
    """Whether the only copy of a session is in this process, which is about to end."""
    unsaved = auth._source.unsaved  # noqa: SLF001 - who ends at once has to know
    return unsaved is not None and unsaved.entry.token.refresh_token is not None


def _command(command: str, name: str, path: Path) -> str:
    """The command as anybody can type it, whatever TOKENFLOW_CONFIG is there."""
    named = "" if _is_own(path) else f" --config {shlex.quote(str(path))}"
    return f"tokenflow {command} --profile {shlex.quote(name)}{named}"


def _is_own(path: Path) -> bool:
    try:
        return path == own_path()
    except ConfigurationError:  # there is no home
        return False
