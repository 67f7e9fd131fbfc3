"""Credentials from an outside store: a secret that was changed there is noticed when the provider refuses ours."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from crossdock.features.integrations.connections import Connection
from crossdock.features.vault.errors import SecretStoreError
from crossdock.gateway.credentials import Credentials, Draft, Signer
from crossdock.gateway.transport import TlsIdentity
from crossdock.kit.clock import Clock

# A secret that is wrong in the store, too, must not double every call.
_NOT_AGAIN_FOR_S = 30.0


class OutsideCredentials:
    """What `make` makes of a connection; after a 401 of what `again` gives, which asks the store."""

    def __init__(
        self,
        connection: Connection,
        *,
        make: Callable[[Connection], Credentials],
        again: Callable[[Connection], Awaitable[Connection]],
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._made = make(connection)
        self._make = make
        self._again = again
        self._clock = clock
        self._refused = False
        self._not_before = 0.0

    @property
    def needs_body(self) -> bool:
        """Whether all of a request's body is signed."""
        return self._made.needs_body

    async def ready(self) -> Signer:
        """What signs the next attempt, with the secret as the store has it now if ours was refused."""
        if self._refused:
            self._refused = False
            # If the store does not answer, the provider's refusal says more than that.
            with suppress(SecretStoreError):
                self._connection = await self._again(self._connection)
                self._made = self._make(self._connection)
        return _Watched(await self._made.ready(), self._ask_again)

    def _ask_again(self) -> bool:
        now = self._clock.monotonic()
        if now < self._not_before:
            return self._refused  # another call's refusal, which the next attempt asks the store about
        self._not_before = now + _NOT_AGAIN_FOR_S
        self._refused = True
        return True


class _Watched:
    """A signer whose refusal is noticed."""

    def __init__(self, signer: Signer, refused: Callable[[], bool]) -> None:
        self._signer = signer
        self._refused = refused

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be shown nowhere."""
        return self._signer.secrets

    @property
    def values(self) -> Mapping[str, str]:
        """What the token's issuer told of the connection."""
        return self._signer.values

    @property
    def tls(self) -> TlsIdentity | None:
        """The client certificate to connect with, and whom to trust."""
        return self._signer.tls

    def sign(self, draft: Draft) -> None:
        """Complete the draft."""
        self._signer.sign(draft)

    def refused(self) -> bool:
        """Whether the next attempt may have something better."""
        return self._signer.refused() or self._refused()
