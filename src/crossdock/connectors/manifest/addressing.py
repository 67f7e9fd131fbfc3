"""Where a connection's requests go: the manifest's templates with the connection's values in place."""

from collections.abc import Mapping
from typing import Any

from crossdock.connectors.manifest.model import WHOLE_URL, Manifest
from crossdock.gateway.interpolation import fill, fill_url, names_in


def variables(
    manifest: Manifest, *, config: Mapping[str, Any], values: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What may be filled in, by name: the configuration over the schema's defaults, and what the provider told."""
    told = {f"values.{name}": value for name, value in (values or {}).items()}
    return {f"config.{name}": _as_text(value) for name, value in with_defaults(manifest, config).items()} | told


def with_defaults(manifest: Manifest, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration, and the schema's defaults for what it leaves out."""
    properties = manifest.spec.get("properties", {})
    defaults = {
        name: rule["default"] for name, rule in properties.items() if isinstance(rule, dict) and "default" in rule
    }
    return {**defaults, **config}


def base_url(
    manifest: Manifest, environment: str, *, config: Mapping[str, Any], values: Mapping[str, str] | None
) -> str | None:
    """Where the provider's API is, without a slash at the end.

    None where there is no such environment, or while `values` is None and the address is among what the
    provider has yet to tell. Raises InterpolationError.
    """
    template = manifest.base_url.of(environment)
    if template is None:
        return None
    if values is None and any(name.startswith("values.") for name in names_in(template)):
        return None
    known = variables(manifest, config=config, values=values)
    url = fill(template, known) if WHOLE_URL.fullmatch(template) else fill_url(template, known, hosts=manifest.hosts)
    return url.rstrip("/")


def path_of(template: str, known: Mapping[str, str]) -> str:
    """A path with its values in place, each one segment; a template that is nothing but a value is a whole path."""
    if WHOLE_URL.fullmatch(template):
        return fill(template, known)
    return fill_url(f"https://path.invalid{template}", known).removeprefix("https://path.invalid")


def _as_text(value: Any) -> str:  # noqa: ANN401 - any JSON
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
