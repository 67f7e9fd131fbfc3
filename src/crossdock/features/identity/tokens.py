"""The random texts that keys and sessions are, and the hashes that stand for them in the database."""

import base64
import hashlib
import hmac
import re
import secrets

KEY_PREFIX = "cdk_"
KEY_START_CHARACTERS = 8

# secrets.token_urlsafe(32): 256 random bits in 43 characters
_RANDOM_BYTES = 32
_KEY_FORM = re.compile(rf"{KEY_PREFIX}[A-Za-z0-9_-]{{43}}")
_TOKEN_FORM = re.compile(r"[A-Za-z0-9_-]{43}")


def new_key() -> str:
    """A fresh API key."""
    return KEY_PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def new_session_token() -> str:
    """A fresh value for a session's cookie."""
    return secrets.token_urlsafe(_RANDOM_BYTES)


def key_start(key: str) -> str:
    """The characters after the prefix by which people recognize a key."""
    return key[len(KEY_PREFIX) : len(KEY_PREFIX) + KEY_START_CHARACTERS]


def looks_like_key(text: str) -> bool:
    """Whether a text has the form of our API keys; only such are looked up."""
    return _KEY_FORM.fullmatch(text) is not None


def looks_like_session_token(text: str) -> bool:
    """Whether a text has the form of our session tokens; only such are looked up."""
    return _TOKEN_FORM.fullmatch(text) is not None


def digest(text: str) -> bytes:
    """SHA-256, which is enough for random texts of this length (a password needs argon2)."""
    return hashlib.sha256(text.encode()).digest()


def csrf_token(session_token: str) -> str:
    """The token that the session's writes carry: nobody can tell it without the cookie, which no script reads."""
    seal = hmac.digest(session_token.encode(), b"csrf", "sha256")
    return base64.urlsafe_b64encode(seal).decode().rstrip("=")
