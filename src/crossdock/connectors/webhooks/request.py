"""An HTTP request as a webhook's sender signed it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


class Headers:
    """HTTP headers: names in any case, several values per name, in the order received."""

    __slots__ = ("_pairs", "_values")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = [(name.lower(), value) for name, value in items]
        self._values: dict[str, list[str]] = {}
        for name, value in self._pairs:
            self._values.setdefault(name, []).append(value)

    @classmethod
    def from_asgi(cls, raw: Iterable[tuple[bytes, bytes]]) -> "Headers":
        """From the pairs of bytes of an ASGI scope."""
        return cls([(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw])

    def get(self, name: str) -> str | None:
        """The first value, or None."""
        values = self._values.get(name.lower())
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """Every value under this name."""
        return self._values.get(name.lower(), [])

    def items(self) -> Sequence[tuple[str, str]]:
        """All names, in lower case, with their values, in the order received."""
        return self._pairs

    def replaced(self, items: Iterable[tuple[str, str]]) -> "Headers":
        """A copy in which these names have these values instead."""
        new = list(items)
        names = {name.lower() for name, _ in new}
        return Headers([*new, *(pair for pair in self._pairs if pair[0] not in names)])

    def without(self, name: str) -> "Headers":
        """A copy that lacks this name."""
        return Headers([pair for pair in self._pairs if pair[0] != name.lower()])

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
