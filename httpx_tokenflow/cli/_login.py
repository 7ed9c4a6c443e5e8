"""``tokenflow login``: open a session, by a browser on this machine or by a code for another device.

Rules.

1. It always logs in anew, perhaps as somebody else; the session of before makes way once that has worked. Only where
   another login of the same profile is under way its outcome is waited for, and is this one's as well.
2. The session that made way is revoked at the server (RFC 7009) if it is certain that it was another person's: both ID
   tokens say who, and not the same. Else it is left to its end there, and that is said: some servers revoke with a
   refresh token all that the person has granted the client, and with it the session that was just opened. Who wants
   it ended logs out first.
3. All that can be found wrong without a person is looked at before a person is asked: the profile, the client's key,
   the store (something is written into it, read, and removed), the file (the change is made, but for the writing). If
   the file cannot be written in the end, what it has to say is shown.
4. Options make a profile, or add to one. What a profile says already they change with ``--update`` alone; and not while
   somebody is logged in by what it says, since that session would be left behind, alive, where nobody finds it. A store
   that cannot be read is no reason not to go to another.
5. The profile is written when the login has worked, and never a secret into it.
6. What a browser writes is none of our output, and a browser that is still there holds up nobody.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from httpx_tokenflow import ReauthenticationRequired, StoreError, TokenAuth, TokenFlowError
from httpx_tokenflow._errors import DamagedEntry

from ._claims import are_two_persons, name_in
from ._commands import ConfigFile, ProfileName  # noqa: TC001 - typer reads them
from ._kept import check_key
from ._plainly import in_words, lasting, plain, plainly, say, show
from ._profile_file import check_options, config_path, read_config
from ._profile_writing import as_lines, check_change, write_settings
from ._settling import check_grant, settle, with_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from httpx_tokenflow import DevicePrompt, Token
    from httpx_tokenflow._entries import Entry

    from ._profiles import Profile

__all__ = ["login"]

_SECONDS = {"authorization_code": 300.0, "device_code": 600.0}  # that a person has, where the profile does not say
_GRACE = 60.0  # seconds for what comes before and after the person

Text = str | None


def _option(name: str, text: str) -> Any:
    return typer.Option(name, help=text, rich_help_panel="The profile")


def login(  # noqa: PLR0913, PLR0917 - the options of a profile, one by one
    profile: ProfileName = "default",
    config: ConfigFile = None,
    device: Annotated[bool, typer.Option("--device", help="By a code, entered on any device with a browser.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Options may change what the profile says.")] = False,
    issuer: Annotated[Text, _option("--issuer", "The server; its endpoints are discovered.")] = None,
    client_id: Annotated[Text, _option("--client-id", "The client, as the server knows it.")] = None,
    client_secret_env: Annotated[
        Text, _option("--client-secret-env", "The environment variable that has the client's secret, if it has one.")
    ] = None,
    scope: Annotated[Text, _option("--scope", "What to ask for, space-separated.")] = None,
    resource: Annotated[list[str] | None, _option("--resource", "The API that the token is for (RFC 8707).")] = None,
    audience: Annotated[Text, _option("--audience", "The same, for servers that call it that.")] = None,
    grant: Annotated[Text, _option("--grant", "authorization_code, device_code or client_credentials.")] = None,
    store: Annotated[Text, _option("--store", "Where tokens are kept: keyring or file.")] = None,
    redirect_port: Annotated[
        int | None, _option("--redirect-port", "The port that the browser comes back to, if the server wants one.")
    ] = None,
    authorization_endpoint: Annotated[
        Text, _option("--authorization-endpoint", "Endpoints, for a server without metadata.")
    ] = None,
    token_endpoint: Annotated[Text, _option("--token-endpoint", "Likewise.")] = None,
    device_authorization_endpoint: Annotated[Text, _option("--device-authorization-endpoint", "Likewise.")] = None,
    revocation_endpoint: Annotated[Text, _option("--revocation-endpoint", "Likewise.")] = None,
) -> None:
    """Log in: by a browser on this machine, or with --device by a code for any other.

    The session is kept for tokenflow token. The options of "The profile" are written
    into the file once the login has worked: from then on the profile's name is enough.

    Who has 5 minutes to log in (10 with --device), unless the profile's timeout says otherwise.

    A session of before is replaced, and revoked if it was another person's. Else it goes
    on at the server until it ends there: tokenflow logout before a login ends it.

    $ tokenflow login --issuer https://auth.example.com --client-id my-tool

    $ tokenflow login --profile work --device

    $ tokenflow login --profile work --scope "openid offline_access read" --update
    """
    given = {
        "grant": grant, "issuer": issuer, "client_id": client_id, "client_secret_env": client_secret_env,
        "scope": scope, "resource": resource or None, "audience": audience, "store": store,
        "redirect_port": redirect_port, "authorization_endpoint": authorization_endpoint,
        "token_endpoint": token_endpoint, "device_authorization_endpoint": device_authorization_endpoint,
        "revocation_endpoint": revocation_endpoint,
    }  # fmt: skip
    with plainly():
        path = config_path(config)
        asked = {key: value for key, value in given.items() if value is not None}
        check_options(asked)
        check_grant(grant, by_device=device)
        was = read_config(path).get(profile)
        chosen, changes = settle(profile, path, asked, by_device=device, may_change=update)
        check_grant(chosen.kind if device and chosen.is_for_client else None, by_device=device)
        check_key(chosen.settings, path.parent)
        chosen, kept = with_store(chosen)
        if changes:
            check_change(path, profile, {**changes, **kept})
        with _browser_aside():
            told = _check_client(chosen) if chosen.is_for_client else _log_in(chosen, by_device=device)
        print(told)  # noqa: T201 - what came of it
        _write(chosen, was or {}, changes, kept)


def _write(profile: Profile, was: Mapping[str, Any], changes: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """The profile as it is now; which store it was is not worth an error.

    Raises:
        SystemExit: what `changes` are was not written; that, and the lines, have been shown.
    """
    name, path = profile.name, profile.path
    if changes:
        try:
            write_settings(path, name, {**changes, **kept}, was=was)
        except TokenFlowError as error:
            say(
                f"{in_words(error)}. You are logged in, and the profile was not written: put these lines there yourself"
            )
            show(as_lines(name, {**changes, **kept}))
            raise typer.Exit(1) from None
        say(f"the profile {name} in {path} has now: {', '.join(changes)}")
    elif kept:
        try:
            write_settings(path, name, kept)
        except TokenFlowError as error:
            say(f"{in_words(error)}; name the store there by hand: store = {kept['store']!r}")


def _check_client(profile: Profile) -> str:
    """Nobody logs in for client credentials: whether they work."""
    token = profile.token()
    return f"The client {profile.settings['client_id']} gets tokens at {profile.server}, and nobody has to log in. " + (
        _about(profile, token)
    )


def _log_in(profile: Profile, *, by_device: bool) -> str:
    """A login, and what came of it."""
    store, key = profile.store(), profile.fingerprint
    before = _held(profile)
    by_device = by_device or profile.kind == "device_code"
    kind = "device_code" if by_device else "authorization_code"
    patience = float(profile.settings.get("timeout", _SECONDS[kind])) + _GRACE
    with ExitStack() as stack:
        try:
            stack.enter_context(store.lease(f"{key}-login", patience, 0.0))
        except StoreError as busy:
            if busy.__cause__ is not None:
                raise
            say("another login of this profile is under way: waiting for it (Ctrl-C gives up)")
            stack.enter_context(store.lease(f"{key}-login", patience, patience))
            if (after := _held(profile)) is not None and _is_newer(after, before):
                return _outcome(profile, after.token)
        token = _open_session(profile, by_device=by_device)
    return _outcome(profile, token)


def _is_newer(after: Entry, before: Entry | None) -> bool:
    return not after.is_mark and not after.is_spent and (before is None or after.stamp != before.stamp)


def _open_session(profile: Profile, *, by_device: bool) -> Token:
    """The token of a new session, which is in the profile's store by then."""
    opened = TokenAuth(profile.login(by_device=by_device, open_browser=_browse, on_prompt=_show))
    try:
        token = opened.token()
    except ReauthenticationRequired as error:
        why = in_words(error).removeprefix("the login failed: ")
        again = f"To try again: {profile.how_to_log_in}"
        raise ReauthenticationRequired(f"the login failed: {why}. {again}") from error
    try:
        former = _held(profile, discards=True)
        with profile.auth() as auth:
            auth.set_token(token)
    except TokenFlowError:
        opened.revoke()  # nobody could use it
        raise
    if former is not None:
        _see_off(profile, former, token)
    return token


def _held(profile: Profile, *, discards: bool = False) -> Entry | None:
    """What the profile's store holds; None, too, if that is damaged."""
    try:
        return profile.stored()
    except DamagedEntry as error:
        if discards:
            say(f"{str(error).removesuffix(': delete it')}: it makes way")
            profile.discard()
        return None


def _see_off(profile: Profile, former: Entry, token: Token) -> None:
    """What becomes of the session that has made way (rule 2)."""
    refresh_token = former.token.refresh_token
    if refresh_token is None or refresh_token == token.refresh_token or former.is_spent:
        return
    who = name_in(former.token.id_token) or "before"
    if not are_two_persons(former.token.id_token, token.id_token):
        say(
            "the session of before goes on at the server until it ends there (to have one ended, run "
            f"{profile.how_to('logout')} before the next login)"
        )
        return
    grant = profile.grant()
    if TokenAuth(grant, token=former.token).revoke():
        say(f"the session of {who} has been revoked")
    else:
        say(f"the session of {who} goes on at the server, which did not revoke it: {grant.why_not}")


def _browse(url: str) -> bool:
    import webbrowser

    say("opening the browser. If none appears, open this address on this machine (elsewhere: --device):")
    show(url)
    threading.Thread(target=_quietly, args=(webbrowser.open, url), daemon=True).start()  # rule 6
    return True


def _quietly(open_browser: Any, url: str) -> None:
    with suppress(Exception):  # the address has been shown
        open_browser(url)


@contextmanager
def _browser_aside() -> Iterator[None]:
    """In here what other programs write to standard output goes to standard error (rule 6)."""
    try:
        output = os.dup(1)
    except OSError:
        yield  # there is none
        return
    try:
        try:
            os.dup2(2, 1)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        yield
    finally:
        os.dup2(output, 1)
        os.close(output)


def _show(prompt: DevicePrompt) -> None:
    lines = [
        f"To log in, open {prompt.verification_uri} on any device",
        f"and enter the code {prompt.user_code}",
        *([f"or open {prompt.verification_uri_complete}"] if prompt.verification_uri_complete else []),
        f"It is good for {lasting(prompt.expires_in)}. Waiting …",
    ]
    show("\n".join(lines))


def _outcome(profile: Profile, token: Token) -> str:
    who = name_in(token.id_token)
    return f"Logged in{f' as {plain(who)}' if who else ''} at {profile.server} (profile {profile.name}). " + (
        _about(profile, token)
    )


def _about(profile: Profile, token: Token) -> str:
    """What was got, in words."""
    left = None if token.expires_at is None else lasting(token.expires_at - time.time() + 0.5)
    lives = f"The access token lives for {left}" if left else "The server does not say how long the access token lives"
    if profile.is_for_client:
        renewal = "the next one is got when it is due"
    elif token.refresh_token is not None:
        renewal = "it is renewed by a refresh token"
    else:
        renewal = "there is no refresh token: after that log in again, or ask for the scope offline_access"
    scope = f" Scope: {plain(token.scope)}." if token.scope else ""
    return f"{lives}, and {renewal}.{scope} Kept in: {profile.store_kind}."
