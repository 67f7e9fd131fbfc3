"""A circuit breaker as calls to a provider see it, whoever else calls the same provider.

    admission = await breaker.admit()
    try:
        response = await transport.send(request)
    except TransportError:
        admission.failed(elapsed_s)

What counts as a failure is the caller's to say: no answer, or a 5xx. A 429 and other 4xx say nothing
against the provider: its holder calls `succeeded` for them. The rules are in `gateway.breaker`.
"""

from typing import Protocol


class Admission(Protocol):
    """Leave for one call; its holder says exactly one of the three, once. Saying more changes nothing."""

    def succeeded(self, duration_s: float) -> None:
        """The provider answered, after so many seconds."""
        ...

    def failed(self, duration_s: float) -> None:
        """The provider did not answer, or answered that it cannot."""
        ...

    def abandoned(self) -> None:
        """The call ended without telling anything about the provider."""
        ...


class CallBreaker(Protocol):
    """One integration's breaker."""

    async def admit(self) -> Admission:
        """Leave for one call. Raises BreakerOpenError while the provider is left alone."""
        ...
