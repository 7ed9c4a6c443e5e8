"""Changes of the file that has the profiles.

Rules.

1. The keys that are meant are changed, and all else is kept: comments, order, other profiles, the ends of lines. What
   cannot be changed without harm is an error.
2. It is written beside, synced, and renamed, by one at a time; where it is a link, what that points at is written. Its
   mode is 0600, and directories that are made for it are 0700.
3. A profile that is no longer what was read is not changed: somebody else has another in mind.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from httpx_tokenflow import ConfigurationError

from ._profile_file import BOM, read_config, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["as_lines", "check_change", "write_settings"]


def check_change(path: Path, name: str, changes: Mapping[str, Any]) -> None:
    """Nothing, if `changes` could be written now, as far as one can tell without doing so.

    Raises:
        ConfigurationError: they cannot, or not without harm to what is in the file.
    """
    folder = next((one for one in path.resolve().parents if one.exists()), Path("/"))
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise ConfigurationError(f"the profile cannot be written: {folder} is no directory that you can write to")
    _changed(path, name, changes)


def write_settings(path: Path, name: str, changes: Mapping[str, Any], *, was: Mapping[str, Any] | None = None) -> None:
    """Have the profile `name` say `changes`; the file is made if it is not there.

    Args:
        path: of the file.
        name: of the profile.
        changes: its keys and values.
        was: what the profile has been when it was read; None: whatever it is.

    Raises:
        ConfigurationError: the file cannot be written, or not without harm to what is in it, or the profile is another.
        StoreError: others write it all the time, or there is no state directory for the lock.
    """
    from httpx_tokenflow.stores._file_locks import FileLocks, make_private, state_directory

    with FileLocks(state_directory(None, "cli", "tokenflow")).mutex("profiles"):
        if was is not None:
            _check_same(path, name, changes, was)
        text = _changed(path, name, changes)
        target = path.resolve()
        try:
            make_private(target.parent)
            _replace(target, text)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror or type(error).__name__}") from error


def _check_same(path: Path, name: str, changes: Mapping[str, Any], was: Mapping[str, Any]) -> None:
    """Whether the profile is what it was, but for what is to be changed anyway."""
    now = read_config(path).get(name, {})
    for key in now.keys() | was.keys():
        if now.get(key) not in (was.get(key), changes.get(key, was.get(key))):
            raise ConfigurationError(f"{path} has been changed meanwhile: its profile {name} has another {key}")


def _replace(target: Path, text: str) -> None:
    number, beside = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # 0600
    try:
        with os.fdopen(number, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def _changed(path: Path, name: str, changes: Mapping[str, Any]) -> str:
    """The text of the file with `changes` in it."""
    import tomlkit

    before, text = read_config(path), read_text(path)
    bom, crlf = text.startswith(BOM), "\r\n" in text
    try:
        document = tomlkit.parse(text.removeprefix(BOM).replace("\r\n", "\n"))
        profiles: Any = document.setdefault("profiles", tomlkit.table(is_super_table=True))
        if name not in profiles:
            profiles[name] = tomlkit.table()
        for key, value in changes.items():
            profiles[name][key] = value
        text = tomlkit.dumps(document)
        is_whole = tomllib.loads(text) == {"profiles": {**before, name: {**before.get(name, {}), **changes}}}
    except Exception:  # noqa: BLE001 - tomlkit raises many things where it is at its end: an inline table, say
        is_whole = False
    if not is_whole:
        raise ConfigurationError(f"{path} cannot be changed without harm to what is in it: change profile {name} there")
    return (BOM if bom else "") + (text.replace("\n", "\r\n") if crlf else text)


def as_lines(name: str, settings: Mapping[str, Any]) -> str:
    """A profile as the file would have it."""
    import tomlkit

    return tomlkit.dumps({"profiles": {name: dict(settings)}}).rstrip("\n")
