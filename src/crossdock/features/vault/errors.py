"""What can go wrong in the vault; what cannot be opened is `kit.crypto.EncryptionError`.

CrossdockError
└── ConflictError  409
    └── SameKeyError    the ring has no other key that could be taken into use
"""

from crossdock.kit.errors import ConflictError


class SameKeyError(ConflictError):
    """The first of the configured encryption keys is the one in use."""

    code = "same_encryption_key"

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"CROSSDOCK_ENCRYPTION_KEYS begins with {key_id}, the key in use. Put a new one before it "
            "(`crossdock doctor --new-key` makes one) for every process, restart them, and rotate again."
        )
