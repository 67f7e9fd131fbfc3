"""An HTTP request as a webhook's sender signed it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


class Headers:
    """HTTP headers: names in any case, several values per name, in the order received."""

    __slots__ = ("_values",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in items:
            self._values.setdefault(name.lower(), []).append(value)

    @classmethod
    def from_asgi(cls, raw: Iterable[tuple[bytes, bytes]]) -> "Headers":
        """From the pairs of bytes of an ASGI scope."""
        return cls((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)

    def get(self, name: str) -> str | None:
        """The first value, or None."""
        values = self._values.get(name.lower())
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """Every value under this name."""
        return self._values.get(name.lower(), [])

    def items(self) -> Iterator[tuple[str, str]]:
        """All names, in lower case, with each of their values."""
        return ((name, value) for name, values in self._values.items() for value in values)

    def replaced(self, items: Iterable[tuple[str, str]]) -> "Headers":
        """A copy in which these names have these values instead."""
        copy = Headers(items)
        for name, values in self._values.items():
            copy._values.setdefault(name, list(values))
        return copy

    def without(self, name: str) -> "Headers":
        """A copy that lacks this name."""
        return Headers((other, value) for other, value in self.items() if other != name.lower())

    def __repr__(self) -> str:
        # Values hold signatures and shared secrets.
        return f"Headers({', '.join(self._values)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundRequest:
    """One request. `url` is the public one, as the sender called it, with its query; some sign it.

    `via_trusted_proxy` says that a proxy of ours passed it on, so that what only a proxy can know
    (the sender's TLS certificate) may be believed.
    """

    method: str = "POST"
    url: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = field(repr=False)
    via_trusted_proxy: bool = False
