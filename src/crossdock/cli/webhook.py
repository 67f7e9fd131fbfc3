"""`crossdock webhook`: both directions, and trying out a sender."""

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from crossdock.cli.command_group import CommandGroup
from crossdock.cli.given import STANDARD_INPUT, read_secret, read_settings
from crossdock.cli.output import AsJson, print_json, show_paragraph
from crossdock.cli.own_signer import own_signer
from crossdock.connectors.webhooks import EventIdentity, InboundRequest, Preset, preset_for, presets, sign
from crossdock.connectors.webhooks.certificate_signature import CertificateSignature
from crossdock.features.inbound.preset_view import PresetOut
from crossdock.kit.errors import InvalidInputError

SECRET_VARIABLE = "CROSSDOCK_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable

# These need the whole hub; to sign a webhook takes less, and should not wait for it.
COMMANDS = {
    "endpoint": ("crossdock.cli.endpoint:app", "Open and keep inbound endpoints, and see what they received."),
    "subscription": (
        "crossdock.cli.subscription:app",
        "Say who gets which events, and see what became of the deliveries.",
    ),
    "handlers": (
        "crossdock.cli.handlers:list_handlers",
        "List the handlers that are installed here, for endpoints with that target.",
    ),
}


class Webhook(CommandGroup):
    """The group of what concerns webhooks."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - of the click that typer brings along
        super().__init__(**settings)
        self.add_later(COMMANDS)


app = typer.Typer(cls=Webhook, no_args_is_help=True, help="Webhooks in and out.")


@app.command(name="presets")
def list_presets(*, as_json: AsJson = False) -> None:
    """List the kinds of senders that Crossdock knows, and what to do on their side."""
    known = [PresetOut.of(preset) for preset in presets().values()]
    if as_json:
        print_json([preset.model_dump(mode="json") for preset in known])
        return
    for preset in known:
        show_paragraph(f"{preset.name} ({preset.title})")
        show_paragraph(preset.how_to, indent=4)


@app.command(name="sign")
def sign_webhook(  # noqa: PLR0913 - each is an option of the command
    *,
    preset: Annotated[str, typer.Option(help="Whose webhook; see `crossdock webhook presets`.")],
    body: Annotated[Path, typer.Option(help="File with the body; - for standard input.")],
    secret: Annotated[
        str, typer.Option(envvar=SECRET_VARIABLE, help="What the sender signs with; - for standard input.")
    ] = "",
    url: Annotated[
        str, typer.Option(help="The endpoint's URL as the sender calls it; some senders sign it.")
    ] = "http://127.0.0.1:8400/webhooks/demo/path",
    settings: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON file with the preset's own settings.")
    ] = None,
    event_type: Annotated[str | None, typer.Option(help="The event's type, where it stands in a header.")] = None,
    event_id: Annotated[str | None, typer.Option(help="The event's id, where it stands in a header.")] = None,
    curl: Annotated[bool, typer.Option("--curl", help="Print a curl command that sends it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a webhook as its sender would: prints the headers to send with the body.

    Behind an empty line comes the body, where the sender's signature or secret stands in it.
    """
    given = _read_body(body)
    source, key = own_signer(_source(preset, settings), read_secret(secret) or "")
    signed = sign(
        source,
        secret=key,
        body=given,
        url=url,
        now=datetime.now(UTC),
        event=EventIdentity(event_id, event_type),
    )
    changed = None if signed.body == given else signed.body.decode()
    if as_json:
        headers = dict(signed.headers.items())
        print_json({"method": signed.method, "url": signed.url, "headers": headers, "body": changed})
    elif curl:
        typer.echo(_curl(signed, body, changed))
    else:
        for name, value in signed.headers.items():
            typer.echo(f"{name}: {value}")
        if changed is not None:
            typer.echo(f"\n{changed}")


def _source(name: str, settings: Path | None) -> Preset:
    known = presets().get(name)
    if settings is None and known is not None and isinstance(known.signature, CertificateSignature):
        return known  # what its settings say is whom to accept, and nothing of how to sign
    return preset_for(name, read_settings(settings), name_pointer="--preset", settings_pointer="--settings")


def _read_body(path: Path) -> bytes:
    if str(path) == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"The body cannot be read from {path}: {error.strerror}.") from None


def _curl(signed: InboundRequest, body: Path, changed: str | None) -> str:
    headers = [part for name, value in signed.headers.items() for part in ("-H", f"{name}: {value}")]
    content = ["--data-binary", f"@{body}"] if changed is None else ["--data-raw", changed]
    return shlex.join(["curl", "-sS", "-X", signed.method, *headers, *content, signed.url])
