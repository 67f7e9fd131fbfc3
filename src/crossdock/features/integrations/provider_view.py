"""Providers as the API shows them: enough to build a form from."""

from typing import Any

from pydantic import Field

from crossdock.connectors.manifest import AuthMethod, Capabilities, Category, Manifest, ProviderStatus, RateLimit
from crossdock.connectors.manifest.auth import OAuth2Auth
from crossdock.features.integrations.models import Environment
from crossdock.http.schemas import View


class CredentialFieldOut(View):
    """One credential that a way in asks for."""

    name: str
    title: str
    description: str
    required: bool
    form: str = Field(description="`text`, `header` (printable ASCII), `username` (no colon) or `pem`.")


class AuthMethodOut(View):
    """A way in."""

    id: str
    kind: str
    title: str
    help: str
    grant: str | None = Field(description="Of OAuth 2, how the first token is come by; None where the user says it.")
    scopes: list[str]
    credentials: list[CredentialFieldOut]

    @classmethod
    def of(cls, name: str, method: AuthMethod) -> "AuthMethodOut":
        """From the manifest."""
        oauth = method.oauth if isinstance(method, OAuth2Auth) else None
        fields = method.fields_for(oauth) if isinstance(method, OAuth2Auth) and oauth is not None else method.fields()
        return cls(
            id=name,
            kind=method.kind,
            title=method.title or name.replace("_", " "),
            help=method.help,
            grant=None if oauth is None else oauth.grant.value,
            scopes=[] if oauth is None else list(oauth.scopes),
            credentials=[CredentialFieldOut.model_validate(field) for field in fields],
        )


class ProviderOut(View):
    """A provider as the list shows it."""

    code: str
    version: str
    name: str
    category: Category
    description: str
    status: ProviderStatus
    documentation_url: str | None
    environments: list[Environment]
    auth_kinds: list[str]
    capabilities: Capabilities
    exclusive: bool = Field(description="Whether one integration of this category is active per environment.")
    per_owner: bool = Field(description="Whether each end user connects for themselves.")

    @classmethod
    def of(cls, manifest: Manifest) -> "ProviderOut":
        """From the manifest."""
        return cls(**_summary(manifest))


class ProviderDetail(ProviderOut):
    """A provider with all that it takes to connect it."""

    api_version: str | None
    versions: list[str] = Field(description="Of the manifest, newest first.")
    spec: dict[str, Any] = Field(description="JSON Schema of an integration's `config`.")
    auth: list[AuthMethodOut] = Field(description="The ways in; the first is the default.")
    rate_limit: list[RateLimit]
    idempotency_header: str | None

    @classmethod
    def of_versions(cls, manifest: Manifest, versions: list[Manifest]) -> "ProviderDetail":
        """From the manifest and those beside it."""
        return cls(
            **_summary(manifest),
            api_version=manifest.api_version,
            versions=[one.version for one in versions],
            spec=manifest.spec,
            auth=[AuthMethodOut.of(name, method) for name, method in manifest.methods.items()],
            rate_limit=list(manifest.rate_limit),
            idempotency_header=manifest.idempotency_header,
        )


def _summary(manifest: Manifest) -> dict[str, Any]:
    same = ("code", "version", "name", "category", "description", "status", "documentation_url", "capabilities")
    return {name: getattr(manifest, name) for name in same} | {
        "environments": [Environment(name) for name in manifest.base_url.environments()],
        "auth_kinds": sorted({method.kind for method in manifest.auth}),
        "exclusive": manifest.exclusive,
        "per_owner": manifest.per_owner,
    }
