"""What a tenant fills in for a provider: checked against its manifest, with a JSON pointer for each fault."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from crossdock.connectors.manifest import AuthMethod, Manifest, needs_consent
from crossdock.connectors.manifest.addressing import base_url
from crossdock.features.integrations.errors import InvalidIntegrationError, ProviderNotAvailableError
from crossdock.features.integrations.models import Environment
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.interpolation import InterpolationError
from crossdock.gateway.urls import parse_destination_url
from crossdock.kit.errors import Fault, InvalidInputError
from crossdock.mapping.json_schema import compile_schema, faults_of

MAX_CONFIG_BYTES = 10 * 1024


def auth_method(manifest: Manifest, wanted: str | None) -> tuple[str, AuthMethod]:
    """The way in of this id, or the provider's first, with its id. Raises InvalidIntegrationError."""
    methods = manifest.methods
    name = wanted or next(iter(methods))
    if name not in methods:
        raise InvalidIntegrationError(
            f"{manifest.name} has no way in called {name!r}; it has {', '.join(methods)}.",
            (Fault("/auth_method", "is none of the provider's"),),
        )
    return name, methods[name]


def check_environment(manifest: Manifest, environment: Environment) -> None:
    """Raise ProviderNotAvailableError unless the provider is there in this environment."""
    if manifest.base_url.of(environment.value) is None:
        raise ProviderNotAvailableError(
            f"{manifest.name} has no {environment.value} environment; "
            f"it has {', '.join(manifest.base_url.environments())}."
        )


def check_config(
    manifest: Manifest, config: Mapping[str, Any], *, environment: Environment, policy: AddressPolicy, draft: bool
) -> None:
    """Raise InvalidIntegrationError unless the configuration fits; a draft's may lack what is required."""
    size = len(json.dumps(config, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_CONFIG_BYTES:
        raise InvalidIntegrationError(
            f"The configuration has {size} bytes; at most {MAX_CONFIG_BYTES} (10 KB) are kept.",
            (Fault("/config", f"has {size} bytes, at most {MAX_CONFIG_BYTES} are kept"),),
        )
    faults = faults_of(
        _validator(json.dumps(manifest.spec)), dict(config), "/config", overlooked={"required"} if draft else ()
    )
    if faults:
        raise InvalidIntegrationError(f"The configuration does not fit what {manifest.name} needs.", faults)
    # A draft is tried out with its credentials, too.
    if not draft or manifest.whole_url_property(environment.value) in config:
        _check_address(manifest, config, environment=environment, policy=policy)


def check_auth(method: AuthMethod, config: Mapping[str, Any]) -> bool:
    """Whether a person's consent is needed; raises InvalidInputError for settings of OAuth that cannot be."""
    return needs_consent(method, config)


def _check_address(
    manifest: Manifest, config: Mapping[str, Any], *, environment: Environment, policy: AddressPolicy
) -> None:
    try:
        url = base_url(manifest, environment.value, config=config, values=None)
    except InterpolationError as error:
        raise InvalidIntegrationError(
            "The provider's address cannot be made from the configuration.", (Fault("/config", error.message),)
        ) from None
    if url is None:
        return
    pointer = _url_pointer(manifest, environment)
    if "?" in url:
        raise InvalidIntegrationError(
            "The provider's address cannot be used.", (Fault(pointer, "Calls' paths are appended: leave ?… away."),)
        )
    try:
        parse_destination_url(url, policy=policy, pointer=pointer)
    except InvalidInputError as error:
        raise InvalidIntegrationError("The provider's address cannot be used.", error.faults) from None


def _url_pointer(manifest: Manifest, environment: Environment) -> str:
    name = manifest.whole_url_property(environment.value)
    return "/config" if name is None else f"/config/{name}"


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:  # noqa: ANN401 - the library's validators are of no type of its own
    return compile_schema(json.loads(schema))
