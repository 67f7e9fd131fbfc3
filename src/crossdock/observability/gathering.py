"""The metrics of several processes in one answer, for those that share a port: whoever is asked asks the others.

Every sample gets the label `process`, as a scraper would give it one for each of several instances: summed here, a
counter would fall when one process is started anew, and look like a restart of all. While they count, the processes
have nothing in common; asking costs only when somebody asks (docs/decisions/0014).
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from crossdock.observability.metrics import REGISTRY

_HOST = "127.0.0.1"
# One that is just being started anew must not keep the others from answering.
_ANSWER_WITHIN_S = 1.0
# What a process tells ends with this; one that dies while it tells must not be read to have counted 12 of 12345.
_END = b"# EOF\n"


async def own_metrics() -> bytes:
    """What this process has counted, in Prometheus' text format."""
    return generate_latest(REGISTRY)


@asynccontextmanager
async def told_to_others(listener: socket.socket) -> AsyncIterator[None]:
    """Tell whoever connects to this socket what this process has counted; until leaving."""

    async def tell(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(generate_latest(REGISTRY) + _END)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(tell, sock=listener)
    try:
        yield
    finally:
        server.close()


class Gathering:
    """Answers for all: `ports` of this machine are where each process tells its metrics, by its number."""

    def __init__(self, *, number: int, ports: Mapping[int, int]) -> None:
        self._number = number
        self._others = {other: port for other, port in ports.items() if other != number}

    async def metrics(self) -> bytes:
        """What all have counted, in Prometheus' text format; one that does not answer is left out."""
        told = await asyncio.gather(*map(_ask, self._others.values()))
        texts = {self._number: generate_latest(REGISTRY).decode(), **dict(zip(self._others, told, strict=True))}
        return generate_latest(_Merged({number: text for number, text in sorted(texts.items()) if text}))


class _Merged(Collector):
    """The families of several texts, each sample with the number of the process that it came from."""

    def __init__(self, texts: Mapping[int, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Metric]:
        """The families, in the order of the texts."""
        families: dict[str, Metric] = {}
        for number, text in self._texts.items():
            for found in text_string_to_metric_families(text):
                family = families.setdefault(found.name, Metric(found.name, found.documentation, found.type))
                for sample in found.samples:
                    family.add_sample(sample.name, {**sample.labels, "process": str(number)}, sample.value)
        yield GaugeMetricFamily("crossdock_processes", "Processes whose figures are here.", value=len(self._texts))
        yield from families.values()


async def _ask(port: int) -> str:
    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            reader, writer = await asyncio.open_connection(_HOST, port)
            try:
                told = await reader.read()
                return told.decode() if told.endswith(_END) else ""
            finally:
                writer.close()
    except OSError:  # also that the time is over
        return ""
