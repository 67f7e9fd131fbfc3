"""Bodies that are read while they come."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator


class Pieces(ABC):
    """A body that comes piece by piece; an empty one is its end."""

    @abstractmethod
    async def piece(self) -> bytes:
        """The next part of the body, empty at its end; raises a TransportError when it breaks off."""

    async def read(self) -> bytes:
        """The rest of the body; raises a TransportError when it breaks off."""
        pieces = [piece async for piece in self]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.piece():
            yield data
