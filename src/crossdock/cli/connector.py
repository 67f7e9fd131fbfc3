"""`crossdock connector`: the providers that can be connected, and manifests of one's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import RootModel

from crossdock.cli.command_group import MISUSED
from crossdock.cli.output import AsJson, print_error, print_json, show_one, show_rows
from crossdock.connectors.manifest import (
    Category,
    InvalidManifestError,
    ProviderLibrary,
    manifest_schema,
    parse_manifest,
)
from crossdock.features.integrations.provider_view import ProviderDetail, ProviderOut
from crossdock.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The providers that can be connected, and manifests of your own.")

Code = Annotated[str, typer.Argument(metavar="PROVIDER", help="Its code, such as generic_http.")]


@app.command(name="list")
def list_providers(
    *,
    category: Annotated[Category | None, typer.Option("--type", help="Of this category alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the providers."""
    found = [ProviderOut.of(one) for one in _library().all() if category in {None, one.category}]
    columns = ("code", "name", "category", "status", "version", "environments", "auth_kinds")
    show_rows(found, columns, as_json=as_json, empty="No provider of this category.")


@app.command()
def show(
    provider: Code,
    *,
    version: Annotated[str | None, typer.Option(help="Of the manifest; the newest unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one provider: what its configuration takes, its ways in, its limits."""
    library = _library()
    found = ProviderDetail.of_versions(library.find(provider, version), library.versions(provider))
    show_one(found if as_json else _readable(found), as_json=as_json)


@app.command()
def validate(
    manifest: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The file, in YAML or JSON.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Check a manifest; what is wrong with it is told with file and line, by exit code 2."""
    try:
        read = parse_manifest(manifest.read_text(encoding="utf-8"), source=str(manifest))
    except InvalidManifestError as error:
        for fault in error.message.splitlines():
            print_error(fault)
        raise typer.Exit(MISUSED) from None
    if as_json:
        print_json(read.model_dump(mode="json", exclude_none=True))
    else:
        typer.echo(f"{manifest} is a good manifest: {read.name}, {read.code} {read.version}.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of manifests, for editors that check while one types."""
    print_json(manifest_schema())


def _readable(provider: ProviderDetail) -> RootModel[dict[str, Any]]:
    """A provider for people: what they fill in, a line each, for the schemas that programs read."""
    shown = provider.model_dump(mode="json")
    spec = shown.pop("spec")
    required = spec.get("required", [])
    shown["config"] = {
        name: " ".join(
            [
                *(["(required)"] if name in required else []),
                ". ".join(part for part in (field.get("title"), field.get("description")) if part),
            ]
        )
        for name, field in spec.get("properties", {}).items()
    }
    shown["auth"] = {way["id"]: _way_in(way) for way in shown["auth"]}
    return RootModel[dict[str, Any]](shown)


def _way_in(way: Mapping[str, Any]) -> str:
    needs = [field["name"] for field in way["credentials"] if field["required"]]
    may = [field["name"] for field in way["credentials"] if not field["required"]]
    if way["kind"] == "oauth2" and not needs:
        needs = ["what its grant asks for, such as client_id and client_secret"]
    told = [way["title"], *([f"needs {', '.join(needs)}"] if needs else [])]
    return "; ".join([*told, *([f"may have {', '.join(may)}"] if may else [])])


def _library() -> ProviderLibrary:
    return ProviderLibrary.with_folders(Settings().provider_folders)
