"""Signatures of what this user's own builds wrote: nothing else is deserialised.

TensorRT's plans hold code. A key that only the user can read tells the store's own files from those
that someone else put there or changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from ..errors import UserError

KEY_BYTES = 32
OTHERS = 0o077


def own_key(path: Path) -> bytes:
    """The key in a file, made where there is none.

    Raises:
        UserError: others can read it, or it is no key.
    """
    if not path.exists():
        _make(path)
    if path.stat().st_mode & OTHERS:
        raise UserError(
            f"{path} can be read by others, so it proves nothing; "
            "remove it, and engines are built again"
        )
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise UserError(f"{path} is damaged; remove it, and engines are built again")
    return key


def sign(key: bytes, data: bytes) -> str:
    """The HMAC-SHA256 of some data, in hex."""
    return hmac.new(key, data, hashlib.sha256).hexdigest()


def signed(key: bytes, data: bytes, signature: str) -> bool:
    """Whether the signature is this key's."""
    given = signature.encode("utf-8", "replace")  # as text it would have to be ASCII
    return hmac.compare_digest(sign(key, data).encode(), given)


def _make(path: Path) -> None:
    """Write a new key, 0600, unless another process was quicker."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".key.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(secrets.token_bytes(KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()
