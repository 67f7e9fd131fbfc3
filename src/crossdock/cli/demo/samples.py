"""What the demo's senders send: payloads of the package, and any folder of JSON files."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

from crossdock.cli.demo.errors import DemoError
from crossdock.connectors.webhooks import EventIdentity

PRESETS = ("github", "stripe", "docusign", "twilio")

_NOT_IN_A_HEADER = re.compile(r"[^A-Za-z0-9_-]+")
# What makes each sending an event of its own.
_PLACES = {b"@UUID@": 36, b"@ID32@": 32, b"@ID24@": 24}


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One webhook to send: `event` is what its sender puts into headers, `unreadable` why its body is not JSON."""

    name: str
    preset: str
    body: bytes = field(repr=False)
    event: EventIdentity
    unreadable: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A payload that can be sent any number of times, each time as a new event."""

    name: str
    preset: str
    body: bytes = field(repr=False)
    event_name: str | None = None
    unreadable: str | None = None

    def webhook(self) -> Webhook:
        """A fresh event with this payload."""
        fresh = uuid4()
        body = self.body
        for place, length in _PLACES.items():
            text = str(fresh) if length > len(fresh.hex) else fresh.hex[:length]
            body = body.replace(place, text.encode())
        return Webhook(
            name=self.name,
            preset=self.preset,
            body=body.replace(b"@SHA@", (fresh.hex + fresh.hex)[:40].encode()),
            event=EventIdentity(id=str(fresh), type=self.event_name),
            unreadable=self.unreadable,
        )


def packaged() -> list[Sample]:
    """The payloads that come with Crossdock: two or three per sender."""
    found = []
    for file in sorted(files(__package__).joinpath("samples").iterdir(), key=lambda file: file.name):
        preset, _, rest = file.name.partition(".")
        if preset in PRESETS:
            found.append(
                Sample(
                    name=file.name,
                    preset=preset,
                    body=file.read_bytes(),
                    event_name=rest.rpartition(".")[0] if preset == "github" else None,
                )
            )
    return _alternating(found)


def from_folder(folder: Path) -> list[Sample]:
    """Every JSON file in the folder and below, in order of their paths; raises DemoError when there is none."""
    if not folder.is_dir():
        raise DemoError(f"{folder} is no folder.")
    samples = [_of_file(path, folder) for path in sorted(folder.rglob("*.json")) if path.is_file()]
    if not samples:
        raise DemoError(f"There is no JSON file in {folder} or below.")
    return samples


def endless(samples: list[Sample]) -> Iterator[Sample]:
    """The samples, again and again."""
    while True:
        yield from samples


def _alternating(samples: list[Sample]) -> list[Sample]:
    """In turns, one of each sender."""
    rank = {
        id(sample): (turn, PRESETS.index(preset))
        for preset in PRESETS
        for turn, sample in enumerate(sample for sample in samples if sample.preset == preset)
    }
    return sorted(samples, key=lambda sample: rank[id(sample)])


def _of_file(path: Path, folder: Path) -> Sample:
    """The file as its sender would send it: Stripe's and DocuSign's events are known by their look.

    All others go as GitHub's, whose body may be anything: the event's name is the folder's.
    """
    name, body = str(path.relative_to(folder)), path.read_bytes()
    event_name = _NOT_IN_A_HEADER.sub("_", path.parent.name) or "ping"
    try:
        document = json.loads(body, parse_constant=_refuse)
    except ValueError as error:
        return Sample(name=name, preset="github", body=body, event_name=event_name, unreadable=str(error))
    match document:
        case {"object": "event", "id": str(), "type": str(), "data": dict()}:
            return Sample(name=name, preset="stripe", body=_written(document | {"id": "evt_@ID24@"}))
        case {"event": str(), "data": {"envelopeId": str()} as data, "generatedDateTime": str()}:
            fresh = document | {"data": data | {"envelopeId": "@UUID@"}}
            return Sample(name=name, preset="docusign", body=_written(fresh))
        case _:
            return Sample(name=name, preset="github", body=body, event_name=event_name)


def _written(document: Any) -> bytes:  # noqa: ANN401 - any JSON
    return json.dumps(document, ensure_ascii=False).encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
