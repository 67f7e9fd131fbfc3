"""The port that a hub listens on; apart from what serves on it, since who listens for others need not load that."""

import socket

from crossdock.kit.errors import CrossdockError
from crossdock.settings import Settings

_BACKLOG = 2048


class PortTakenError(CrossdockError):
    """The port is taken."""

    code = "port_taken"


def listen(host: str, port: int, *, setting: str = "CROSSDOCK_PORT") -> socket.socket:
    """A listening socket; raises PortTakenError that says what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise PortTakenError(
            f"Cannot listen on {host} port {port}: {error.strerror}. "
            f"Is another hub running? Stop it, or choose another port with {setting}."
        ) from error
    # What is accepted here inherits it, and asyncio would not see to it for a socket that was made like this. An
    # answer's body would wait for its head to be acknowledged: 40 ms with many a client.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def listen_as_set(settings: Settings, *, api: bool) -> socket.socket | None:
    """The API's listening socket, or that of a worker alone if it is to have one."""
    if api:
        return listen(settings.host, settings.port)
    if settings.worker_port is None:
        return None
    return listen(settings.host, settings.worker_port, setting="CROSSDOCK_WORKER_PORT")


def base_url(listener: socket.socket, settings: Settings) -> str:
    """Where the API that listens there is reached from this machine."""
    host = settings.host
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{listener.getsockname()[1]}"
