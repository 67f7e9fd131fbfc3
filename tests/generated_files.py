"""The files under docs/ that are made from the code: `python -m tests.generated_files` writes them.

With `--check` it writes nothing and says which of them are not current.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from crossdock.api.app import hub_api
from crossdock.cli.command_group import LaterCommand
from crossdock.cli.main import app
from crossdock.connectors.manifest import manifest_schema
from crossdock.connectors.webhooks import Preset, SecretOrigin, presets
from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.settings import Settings

_DOCS = Path(__file__).parent.parent / "docs"
_MADE = "<!-- Made from the code by `make generate`; do not edit. -->"


def openapi() -> str:
    """The API's description."""
    return json.dumps(hub_api().openapi(), indent=1, ensure_ascii=False) + "\n"


def settings_reference() -> str:
    """Every setting with default and meaning."""
    rows = [
        f"| `CROSSDOCK_{name.upper()}` | {_kind(field)} | {_default(name)} | {field['description']} |"
        for name, field in Settings.model_json_schema()["properties"].items()
    ]
    return "\n".join(
        [
            _MADE,
            "# Settings",
            "",
            "Each is an environment variable, or a line `NAME=value` of the file that `CROSSDOCK_SETTINGS_FILE` names.",
            "The environment wins. All are read when a process starts. Another name that begins with `CROSSDOCK_` is",
            "refused, and what may have been meant is named: a setting that is misspelt would be without effect.",
            "",
            "| setting | value | default | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def cli_reference() -> str:
    """Every command with its arguments and options."""
    lines = [_MADE, "# Commands", "", "Each also has `--help`.", ""]
    for name, command in _commands("crossdock", typer.main.get_command(app)):
        lines += _command_section(name, command)
    return "\n".join(lines)


def presets_reference() -> str:
    """Every kind of sender, and the settings it takes."""
    lines = [_MADE, "# Senders of webhooks", "", "How to set each of them up: [webhooks-from-providers.md]"]
    lines[-1] += "(../webhooks-from-providers.md)."
    parts: dict[str, Any] = {}
    for preset in presets().values():
        lines += ["", f"## {preset.title}", "", f"`{preset.name}`. {preset.how_to}", "", *_proof(preset)]
        if preset.configured is not None:
            needed = "needed" if preset.needs_settings else "optional"
            lines += ["", f"Settings ({needed}):", "", "| | | |", "|---|---|---|"]
            schema = preset.configured.settings.model_json_schema()
            parts |= schema.get("$defs", {})
            lines += _schema_rows(schema, parts)
    lines += ["", "## Parts of settings"]
    for name, part in sorted(parts.items()):
        if "properties" in part:
            lines += ["", f"### {name}", "", _cell(part["description"]), "", "| | | |", "|---|---|---|"]
            lines += _schema_rows(part, parts)
    return "\n".join([*lines, ""])


def manifest_reference() -> str:
    """What a provider's manifest may say."""
    return json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"


GENERATED: dict[Path, Callable[[], str]] = {
    _DOCS / "openapi.json": openapi,
    _DOCS / "reference" / "cli.md": cli_reference,
    _DOCS / "reference" / "settings.md": settings_reference,
    _DOCS / "reference" / "manifest.schema.json": manifest_reference,
    _DOCS / "reference" / "webhook-presets.md": presets_reference,
}


def main(arguments: list[str]) -> int:
    """The exit code: 1 when a file was asked to be current and is not."""
    stale = [
        path for path, make in GENERATED.items() if not path.exists() or path.read_text(encoding="utf-8") != make()
    ]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(_DOCS.parent)} is not current. Run: make generate")  # noqa: T201 - a command
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(GENERATED[path](), encoding="utf-8")
    return 0


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The command and those below it, each with its full name; groups are not commands of their own."""
    if isinstance(command, LaterCommand):
        command = command.resolved()
    if not isinstance(command, TyperGroup):
        yield name, command
        return
    for word, below in command.commands.items():
        if not below.hidden:
            yield from _commands(f"{name} {word}", below)


def _command_section(name: str, command: Any) -> list[str]:
    context = typer.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = [f"## {name}", "", command.help or "", "", f"    {usage}", ""]
    records = [
        record for param in command.params if param.name != "help" and (record := param.get_help_record(context))
    ]
    if records:
        lines += ["| | |", "|---|---|"]
        lines += [f"| `{_cell(what)}` | {_cell(meaning)} |" for what, meaning in records]
        lines.append("")
    return lines


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _proof(preset: Preset) -> list[str]:
    makers = {SecretOrigin.HUB: "made by the hub, or your own", SecretOrigin.SENDER: "made by the sender"}
    lines = [f"- secret: {makers[preset.secret_from] if preset.signature.needs_secret else 'none'}"]
    if isinstance(preset.signature, HmacSignature):
        scheme = preset.signature.scheme
        lines.append(
            f"- signature: header `{scheme.header}`, {scheme.prefix and f'`{scheme.prefix}` and '}HMAC-"
            f"{scheme.algorithm.upper()} in {scheme.encoding} of `{scheme.signed_content}`"
        )
        if scheme.timestamp is not None:
            lines.append(f"- refused when older than {scheme.timestamp.tolerance_s} s")
    return lines


def _schema_rows(schema: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    needed = schema.get("required", ())
    return [
        f"| `{name}` | {_schema_kind(field, definitions)}{', needed' if name in needed else ''} | "
        f"{_cell(field.get('description', ''))} |"
        for name, field in schema["properties"].items()
    ]


def _schema_kind(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    choices = [choice for choice in field.get("anyOf", [field]) if choice.get("type") != "null"]
    return " or ".join(_schema_word(choice, definitions) for choice in choices)


def _schema_word(choice: dict[str, Any], definitions: dict[str, Any]) -> str:
    name = choice.get("$ref", "").rpartition("/")[2]
    part = definitions[name] if name else choice
    if "enum" in part:
        return ", ".join(f"`{value}`" if value.strip() else "a blank" if value else "nothing" for value in part["enum"])
    if name:
        return f"[{name}](#{name.lower()})"
    word: str = {"array": "list", "string": "text", "integer": "whole number"}.get(choice["type"], choice["type"])
    return word


def _kind(field: dict[str, Any]) -> str:
    for choice in field.get("anyOf", ()):
        if choice.get("type") != "null":
            return _kind(choice)
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    kinds = {"array": "comma-separated", "string": "text", "boolean": "`true`, `false`", "integer": "whole number"}
    kind = {"path": "folder", "password": "secret"}.get(
        field.get("format", ""), kinds.get(field["type"], field["type"])
    )
    bounds = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "to {}",
        "exclusiveMaximum": "below {}",
    }
    return " ".join([kind, *(text.format(_number(field[name])) for name, text in bounds.items() if name in field)])


def _default(name: str) -> str:
    if name == "data_dir":
        return "`crossdock` in the user's data folder"
    value = Settings.model_fields[name].default
    if value is None or value == ():
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _number(value: float) -> str:
    return f"{value:g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
