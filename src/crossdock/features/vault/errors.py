"""What can go wrong in the vault; what cannot be opened is `kit.crypto.EncryptionError`.

CrossdockError
├── ConflictError  409
│   ├── SameKeyError          the ring has no other key that could be taken into use
│   ├── StoreNameTakenError   the tenant has a secret store of this name
│   └── TooManyStoresError    the tenant has as many secret stores as it may
├── NotFoundError  404
│   └── StoreNotFoundError
├── InvalidInputError  422
│   └── InvalidStoreError     settings or credentials that do not fit the store
└── SecretStoreError  502     no secret came out of an outside store; `retryable` says whether later may help
    ├── StoreUnreachableError     it does not answer, or has trouble of its own
    ├── StoreRefusedError         it does not let us in, or not to this secret
    ├── SecretNotThereError       there is no such secret, version or field
    └── UnknownStoreError         a reference names a store that the tenant has not registered
"""

from typing import ClassVar

from crossdock.kit.errors import ConflictError, CrossdockError, InvalidInputError, NotFoundError


class SameKeyError(ConflictError):
    """The first of the configured encryption keys is the one in use."""

    code = "same_encryption_key"

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"CROSSDOCK_ENCRYPTION_KEYS begins with {key_id}, the key in use. Put a new one before it "
            "(`crossdock doctor --new-key` makes one) for every process, restart them, and rotate again."
        )


class StoreNameTakenError(ConflictError):
    """There is a secret store of this name already."""

    code = "store_name_taken"


class TooManyStoresError(ConflictError):
    """The tenant has as many secret stores as it may."""

    code = "too_many_stores"


class StoreNotFoundError(NotFoundError):
    """There is no such secret store."""

    code = "store_not_found"


class InvalidStoreError(InvalidInputError):
    """The settings or credentials do not fit this kind of secret store."""

    code = "invalid_store"


class SecretStoreError(CrossdockError):
    """No secret came out of an outside store."""

    code = "secret_store_failed"
    status: ClassVar[int] = 502
    retryable: ClassVar[bool] = False

    def again(self) -> "SecretStoreError":
        """The same error anew: one that is raised twice would gather the traces of both."""
        return type(self)(self.message)


class StoreUnreachableError(SecretStoreError):
    """The secret store does not answer."""

    code = "secret_store_unreachable"
    retryable = True


class StoreRefusedError(SecretStoreError):
    """The secret store does not let us in; check its credentials and what they may read."""

    code = "secret_store_refused"


class SecretNotThereError(SecretStoreError):
    """The secret store has no such secret."""

    code = "secret_not_there"


class UnknownStoreError(SecretStoreError):
    """No secret store of this name is registered."""

    code = "unknown_store"
