"""What an integration would be with new settings: all checks, nothing stored."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from crossdock.connectors.manifest import AuthMethod, CredentialField, Manifest, ProviderLibrary, asked_by
from crossdock.connectors.manifest.addressing import with_defaults
from crossdock.features.integrations.configuration import auth_method, check_config, check_environment
from crossdock.features.integrations.credentials import Credentials, check, hints, plain
from crossdock.features.integrations.errors import InvalidIntegrationError
from crossdock.features.integrations.models import Integration
from crossdock.features.integrations.schemas import IntegrationPatch, IntegrationSettings
from crossdock.gateway.addresses import AddressPolicy
from crossdock.kit.errors import Fault
from crossdock.kit.wording import worded

# What a connection is made of: of these a change has to be tested.
_OF_THE_CONNECTION = ("provider_version", "config", "auth_method")
_SET = (*_OF_THE_CONNECTION, "name", "description", "options", "external_id", "source_system", "custom_fields")
_WRITTEN = (*_SET, "slot", "category", "exclusive", "credential_hints", "authorized_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A row as it would be (a copy, in no session), and what it was made of.

    `moved` says that its calls would be others than before; `elsewhere`, that they, or what signs in, would go
    to another place, which gets no tokens of before.
    """

    row: Integration
    manifest: Manifest
    method: AuthMethod
    asked: tuple[CredentialField, ...]
    credentials: Credentials = field(repr=False)
    moved: bool
    elsewhere: bool
    new_credentials: bool

    def write(self, row: Integration) -> None:
        """Give the stored row the planned values; its credentials are sealed by whoever has the vault."""
        for name in _WRITTEN:
            setattr(row, name, getattr(self.row, name))
        if self.moved:
            row.revision += 1


class Planner:
    """Plans integrations."""

    def __init__(self, *, library: ProviderLibrary, policy: AddressPolicy) -> None:
        self._library = library
        self._policy = policy

    def plan(
        self,
        current: Integration,
        settings: IntegrationSettings,
        *,
        before: Credentials,
        credentials: Credentials,
        given: Collection[str] = (),
        draft: bool,
    ) -> Plan:
        """The row with these settings and credentials, instead of those `before`.

        `given` are the names of the credentials that came just now: the others are not taken along to another
        place. Raises InvalidIntegrationError, ProviderNotAvailableError and UnknownProviderError.
        """
        manifest = self._library.find(current.provider, settings.provider_version)
        check_environment(manifest, current.environment)
        check_config(manifest, settings.config, environment=current.environment, policy=self._policy, draft=draft)
        name, method = auth_method(manifest, settings.auth_method)
        asked = () if draft and _oauth_unsaid(method, settings.config) else asked_by(method, settings.config)
        check(credentials, asked)
        row = _copy(current)
        for column in _SET:
            if column not in {"options", "auth_method", "provider_version"}:
                setattr(row, column, getattr(settings, column))
        row.provider_version, row.auth_method = manifest.version, name
        row.options = settings.options.model_dump(mode="json", exclude_defaults=True)
        row.slot = settings.name.strip().casefold() if manifest.many else ""
        row.category, row.exclusive = manifest.category.value, manifest.exclusive
        row.credential_hints = hints(credentials)
        new_credentials = credentials != before
        elsewhere = bool(current.auth_method) and self._places(current) != self._places(row)
        if elsewhere:
            _refuse_to_take_along([name for name in credentials if name not in given])
        new_client = _client(current, before) != _client(row, credentials)
        if new_client or elsewhere:
            row.authorized_at = None
        moved = new_credentials or any(getattr(row, one) != getattr(current, one) for one in _OF_THE_CONNECTION)
        return Plan(
            row=row,
            manifest=manifest,
            method=method,
            asked=asked,
            credentials=credentials,
            moved=moved,
            elsewhere=elsewhere,
            new_credentials=new_credentials,
        )

    def _places(self, integration: Integration) -> tuple[object, ...]:
        """Where credentials and tokens go, as far as the tenant says it: whoever may change that must not get them."""
        manifest = self._library.find(integration.provider, integration.provider_version)
        config = with_defaults(manifest, integration.config)
        whole = manifest.whole_url_property(integration.environment.value)
        method = manifest.methods.get(integration.auth_method)
        oauth = method.oauth_in if method is not None and method.kind == "oauth2" else None
        return (
            None if whole is None else _origin(str(config.get(whole, ""))),
            None if oauth is None else config.get(oauth),
        )


def settings_of(integration: Integration) -> dict[str, Any]:
    """A stored integration's settings, as `IntegrationSettings` takes them."""
    return {name: getattr(integration, name) for name in IntegrationSettings.model_fields}


def patched_settings(integration: Integration, patch: IntegrationPatch) -> IntegrationSettings:
    """The settings with a patch's; raises InvalidIntegrationError for options that cannot be."""
    given = patch.model_dump(exclude_unset=True, exclude={"credentials", "activate", "config", "options"})
    settings = settings_of(integration) | given
    if patch.config is not None:
        settings["config"] = _merged(integration.config, patch.config)
    if patch.options is not None:
        settings["options"] = _merged(integration.options, patch.options)
    try:
        return IntegrationSettings.model_validate(settings)
    except ValidationError as error:
        raise InvalidIntegrationError("The settings are not valid.", worded(error.errors())) from None


def patched_credentials(before: Credentials, patch: IntegrationPatch) -> dict[str, str | dict[str, Any]]:
    """The credentials with a patch's."""
    after = {**before, **plain(patch.credentials or {})}
    return {name: value for name, value in after.items() if value is not None}


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return f"{parts.scheme}://{parts.netloc}".lower()


def _refuse_to_take_along(names: list[str]) -> None:
    if names:
        fault = "is needed again: the new settings change where it would be sent, or what for"
        raise InvalidIntegrationError(
            "The settings lead elsewhere; give the credentials with them.",
            tuple(Fault(f"/credentials/{name}", fault) for name in names),
        )


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**old, **new}.items() if value is not None}


def _oauth_unsaid(method: AuthMethod, config: Mapping[str, Any]) -> bool:
    """Whether a draft does not say yet how OAuth is done."""
    return method.kind == "oauth2" and method.oauth is None and (method.oauth_in or "") not in config


def _client(integration: Integration, credentials: Credentials) -> tuple[object, ...]:
    """Who asks for a consent, and whom: what a person has agreed to."""
    return (integration.auth_method, integration.config.get("oauth"), credentials.get("client_id"))


def _copy(integration: Integration) -> Integration:
    return Integration(**{column.key: getattr(integration, column.key) for column in Integration.__table__.columns})
