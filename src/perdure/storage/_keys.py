"""The keys of an encrypted database."""

import logging
import os
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from perdure._folders import sync_folder
from perdure.errors import EncryptionError

__all__ = ["KEY_BYTES", "KEY_ID_BYTES", "KeyRing", "Keys", "key_id_of", "library", "write_new_key"]

KEY_BYTES: Final = 32
_KEY_FILE_BYTES_MAX: Final = 4096
KEY_ID_BYTES: Final = 8
SALT_BYTES: Final = 16
_CIPHERS_KEPT_MAX: Final = 4096

KeyProvider = Callable[[str | None], bytes | None]
"""Given a key's id, it returns that key or None; given None, the newest key."""

Keys = bytes | str | os.PathLike[str] | Iterable[str | os.PathLike[str] | bytes] | KeyProvider

_log = logging.getLogger("perdure.encryption")


def library() -> Any:
    """Return the class AESGCM of ``cryptography``; ImportError where that isn't there."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ImportError(
            "EncryptingStorage needs the package cryptography: pip install 'perdure[encryption]'"
        ) from error
    return AESGCM


def key_id_of(key: bytes) -> str:
    """Return the id of a key, 16 hexadecimal digits, by which records name it."""
    # Late: it brings OpenSSL, some megabytes, which only encryption and backups need.
    import hashlib

    return hashlib.sha256(b"perdure key id\0" + key).digest()[:KEY_ID_BYTES].hex()


def write_new_key(path: str | os.PathLike[str]) -> str:
    """Make a new random key, keep it in the new file *path*, and return its id.

    The file (64 hexadecimal digits) is for its owner alone. FileExistsError where there
    is one already: a key that is lost takes what was encrypted with it along.
    """
    key = os.urandom(KEY_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{key.hex()}\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(os.path.dirname(path) or ".")  # noqa: PTH120 - pathlib takes memory
    except OSError:
        # It is nobody's key, and would be in the way of the next attempt.
        os.unlink(path)  # noqa: PTH108
        raise
    return key_id_of(key)


class KeyRing:
    """The keys that *keys* gives; new records are encrypted with the newest.

    *keys* is a key (32 bytes) or key file, or several with the newest first, or a
    function that returns the key with a given id (None: it hasn't that one), and the
    newest for None.

    Raises EncryptionError where there is no key, or a file holds none.
    """

    def __init__(self, keys: Keys) -> None:
        self._new_cipher = library()
        self._provider: KeyProvider | None = keys if callable(keys) else None
        given: list[bytes]
        if self._provider is not None:
            newest = self._provider(None)
            given = [] if newest is None else [_checked(newest, "what the key provider returned")]
        elif isinstance(keys, (str, bytes, os.PathLike)):
            given = [_key_in(keys)]
        else:
            assert not callable(keys)
            given = [_key_in(key) for key in keys]
        if not given:
            raise EncryptionError("no key was given to encrypt with: make one with write_new_key")
        # The two below are added to only, and what is added twice is the same.
        self._keys = {key_id_of(key): key for key in given}
        self._ciphers: dict[tuple[str, bytes, bytes], Any] = {}
        self._lock = threading.Lock()
        self.newest = key_id_of(given[0])

    def __repr__(self) -> str:
        # Keys must not get into logs.
        return f"<{type(self).__name__} {', '.join(self._keys)}>"

    def cipher(self, key_id: str, salt: bytes, purpose: bytes) -> Any:
        """Return the cipher for what was encrypted with this key, *salt* and *purpose*.

        Each salt makes a key of its own, so that the random nonces used with one of
        them stay few enough never to meet. EncryptionError where the key isn't at hand.
        """
        place = key_id, salt, purpose
        cipher = self._ciphers.get(place)
        if cipher is None:
            cipher = self._new_cipher(_derived(self._key(key_id), salt, purpose))
            with self._lock:
                if len(self._ciphers) >= _CIPHERS_KEPT_MAX:
                    self._ciphers.clear()
                self._ciphers[place] = cipher
        return cipher

    def _key(self, key_id: str) -> bytes:
        key = self._keys.get(key_id)
        if key is not None:
            return key
        found = None if self._provider is None else self._provider(key_id)
        if found is None:
            raise EncryptionError(
                f"encrypted with the key {key_id}, which is not at hand (there are: "
                f"{', '.join(self._keys)}): give that key, too, to read with",
                key=key_id,
            )
        key = _checked(found, "what the key provider returned")
        if key_id_of(key) != key_id:
            raise EncryptionError(
                f"the key provider was asked for the key {key_id} and returned the key "
                f"{key_id_of(key)}",
                key=key_id,
            )
        self._keys[key_id] = key
        return key


def _derived(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived: bytes = HKDF(SHA256(), KEY_BYTES, salt=salt, info=purpose).derive(key)
    return derived


def _checked(key: Any, what: str) -> bytes:
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise EncryptionError(f"{what} is not a key: a key has {KEY_BYTES} bytes")
    return key


def _key_in(source: str | os.PathLike[str] | bytes) -> bytes:
    if isinstance(source, bytes):
        return _checked(source, "what was given")
    path = Path(source)
    try:
        with path.open("rb") as file:
            content = file.read(_KEY_FILE_BYTES_MAX)
        mode = path.stat().st_mode
    except OSError as error:
        raise EncryptionError(f"the key file {path} can't be read: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        _log.warning("the key file %s is open to others than its owner: chmod 600 it", path)
    if len(content) == KEY_BYTES:
        return content
    try:
        key = bytes.fromhex(content.decode("ascii"))
    except ValueError:
        key = b""
    return _checked(key, f"what the key file {path} holds")
