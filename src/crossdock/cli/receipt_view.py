"""A webhook as it was received, for people to read: headers line by line, the body as text where it is text."""

from base64 import b64decode

import typer

from crossdock.cli.output import show_one
from crossdock.features.inbound.schemas import ReceiptDetail


def show_receipt(receipt: ReceiptDetail) -> None:
    """The fields, the headers and the body; where the body cannot be shown, the command that writes it."""
    show_one(receipt.model_copy(update={"headers": [], "body_base64": None}), as_json=False)
    _show_headers(receipt.headers)
    typer.echo(f"\n{_body_text(receipt)}")


def _show_headers(headers: list[tuple[str, str]]) -> None:
    """Each header in a line of its own."""
    typer.echo("\nheaders")
    for name, value in headers:
        typer.echo(f"  {name}: {value}")


def _body_text(receipt: ReceiptDetail) -> str:
    instead = f"crossdock webhook endpoint receipt {receipt.id} --out FILE"
    if receipt.body_base64 is None:
        return f"The body is in the file store; {instead} writes it."
    try:
        text = b64decode(receipt.body_base64).decode()
    except UnicodeDecodeError:
        return f"The body is not text in UTF-8; {instead} writes it."
    return f"body\n{_harmless(text)}" if text else "There is no body."


def _harmless(text: str) -> str:
    """Without what would move the cursor or change the terminal: whoever sends webhooks does not write there."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text)
