"""What a manifest may say: a provider as data."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from crossdock.connectors.manifest.auth import AuthMethod
from crossdock.gateway.headers import name_fault
from crossdock.gateway.interpolation import has_templated_host, is_host_pattern, names_in
from crossdock.gateway.limits import RateWindow
from crossdock.kit.errors import InvalidInputError
from crossdock.mapping.expressions import compile_expression
from crossdock.mapping.json_schema import SchemaIsInvalidError, compile_schema

# A base URL that the user gives whole, as a generic provider asks for it.
WHOLE_URL = re.compile(r"\{\{\s*config\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")

_SECRET_WORDS = re.compile(r"(password|secret|token|api_?key|private_?key)$", re.IGNORECASE)


class Category(StrEnum):
    """What a provider is for."""

    LOAD_BOARD = "load_board"
    ACCOUNTING = "accounting"
    ELD = "eld"
    CRM = "crm"
    PAYMENTS = "payments"
    EMAIL = "email"
    SMS = "sms"
    ESIGNATURE = "esignature"
    DOCUMENTS = "documents"
    CALENDAR = "calendar"
    BANKING = "banking"
    REAL_ESTATE = "real_estate"
    CONTENT = "content"
    RATING = "rating"
    ANALYTICS = "analytics"
    LEGACY = "legacy"
    STORAGE = "storage"
    SECRETS = "secrets"
    CUSTOM = "custom"


# Of these a tenant has one active integration per environment: what is sent must have one way out.
EXCLUSIVE_CATEGORIES = frozenset({Category.PAYMENTS, Category.EMAIL, Category.SMS})


class ProviderStatus(StrEnum):
    """Whether a provider can be connected: DEPRECATED ones go on, COMING_SOON ones only show."""

    ACTIVE = "active"
    DEPRECATED = "deprecated"
    COMING_SOON = "coming_soon"


def _header(name: str) -> str:
    fault = name_fault(name)
    if fault:
        raise ValueError(fault)
    return name


def _host(text: str) -> str:
    if not is_host_pattern(text.lower()):
        raise ValueError("A host is a name such as api.example.com, or *.example.com for its subdomains.")
    return text.lower()


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        compile_schema(schema)
    except SchemaIsInvalidError as error:
        raise ValueError(f"This is no usable JSON Schema: {error}") from None
    if schema.get("type") != "object":
        raise ValueError("The configuration is an object: `type: object`.")
    for name, rule in schema.get("properties", {}).items():
        if _SECRET_WORDS.search(name) or (isinstance(rule, dict) and rule.get("writeOnly")):
            raise ValueError(f"{name!r} looks like a secret; what must be sealed belongs to `auth`, under `asks`.")
    return schema


def _expression(text: str) -> str:
    try:
        compile_expression(text)
    except InvalidInputError as error:
        raise ValueError(error.message) from None
    return text


Template = Annotated[str, Field(min_length=1, max_length=2_000)]
HeaderName = Annotated[str, AfterValidator(_header)]
Host = Annotated[str, Field(max_length=255), AfterValidator(_host)]
Code = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,49}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Capabilities(_Part):
    """What a provider can do beyond answering one call at a time."""

    webhooks: bool = False
    batch: bool = False
    realtime: bool = False


class RateLimit(_Part):
    """At most `calls` in any `seconds`."""

    calls: int = Field(ge=1, le=10_000_000)
    seconds: float = Field(gt=0, le=2_678_400)

    def window(self) -> RateWindow:
        """As the gateway takes it."""
        return RateWindow(self.calls, self.seconds)


class BaseUrls(_Part):
    """Where the provider's API is, by environment; one that is missing does not exist there."""

    production: Template | None = None
    sandbox: Template | None = None
    test: Template | None = None

    def of(self, environment: str) -> str | None:
        """The template for an environment."""
        url: str | None = getattr(self, environment)
        return url

    def environments(self) -> tuple[str, ...]:
        """Those that there are."""
        return tuple(name for name in type(self).model_fields if self.of(name) is not None)


class ConnectionCheck(_Part):
    """A request that shows whether a connection works, and harms nothing."""

    method: Literal["GET", "HEAD", "POST"] = "GET"
    path: Template = "/"
    query: dict[str, Template] = Field(default_factory=dict, max_length=20)
    headers: dict[HeaderName, Template] = Field(default_factory=dict, max_length=20)
    body: Any = Field(default=None, description="Sent as JSON.")
    statuses: tuple[Annotated[int, Field(ge=100, le=599)], ...] = Field(
        default=(), max_length=50, description="Which answers are good ones; any 2xx if left out."
    )
    expect: Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(_expression)] | None = Field(
        default=None, description="JMESPath over the answer's JSON; must hold, for providers that say errors in a 200."
    )


class Manifest(_Part):
    """A provider."""

    manifest: Literal[1] = Field(description="The version of this format.")
    code: Code
    version: str = Field(default="1.0.0", pattern=r"^\d{1,4}\.\d{1,4}\.\d{1,4}$")
    name: str = Field(min_length=1, max_length=200)
    category: Category
    description: str = Field(default="", max_length=2_000)
    status: ProviderStatus = ProviderStatus.ACTIVE
    documentation_url: str | None = Field(default=None, max_length=500, pattern=r"^https://\S+$")
    api_version: str | None = Field(default=None, max_length=20)
    per_owner: bool = Field(default=False, description="Each end user connects for themselves.")
    many: bool = Field(default=False, description="Stands for many APIs: a tenant has as many as it has names for.")
    capabilities: Capabilities = Capabilities()
    spec: Annotated[dict[str, Any], AfterValidator(_schema)] = Field(
        default_factory=lambda: {"type": "object", "additionalProperties": False},
        description="JSON Schema of what the user fills in; no secrets.",
    )
    base_url: BaseUrls
    hosts: tuple[Host, ...] = Field(
        default=(), max_length=50, description="Where calls may go; needed where a base URL's host is filled in."
    )
    headers: dict[HeaderName, Template] = Field(default_factory=dict, max_length=20, description="With every call.")
    auth: tuple[AuthMethod, ...] = Field(min_length=1, max_length=10)
    rate_limit: tuple[RateLimit, ...] = Field(default=(), max_length=5)
    idempotency_header: HeaderName | None = Field(
        default=None, description="Where writes carry a key that makes repeating them safe."
    )
    check: ConnectionCheck

    @property
    def exclusive(self) -> bool:
        """Whether a tenant has one active integration of this category per environment."""
        return self.category in EXCLUSIVE_CATEGORIES

    @property
    def methods(self) -> Mapping[str, AuthMethod]:
        """The ways in, by id; the first is the default."""
        return {method.id or method.kind: method for method in self.auth}

    def whole_url_property(self, environment: str) -> str | None:
        """The property of the configuration that is the base URL, where the user gives it whole."""
        match = WHOLE_URL.fullmatch(self.base_url.of(environment) or "")
        return match[1] if match else None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.methods) != len(self.auth):
            raise ValueError("Two ways of `auth` have the same id; give each its own.")
        if not self.base_url.environments():
            raise ValueError("`base_url` needs at least one environment.")
        if self.per_owner and self.exclusive:
            raise ValueError(f"Of {self.category} a tenant has one; it cannot be `per_owner`.")
        if self.many and self.exclusive:
            raise ValueError(f"Of {self.category} a tenant has one; there cannot be `many`.")
        for environment in self.base_url.environments():
            self._check_base_url(environment, self.base_url.of(environment) or "")
        self._check_names()
        return self

    def _check_base_url(self, environment: str, url: str) -> None:
        if WHOLE_URL.fullmatch(url):
            return
        if not url.startswith(("https://", "{{")):
            raise ValueError(f"The base URL of {environment} must begin with https://.")
        if has_templated_host(url) and not self.hosts:
            raise ValueError(f"The base URL of {environment} has a host that is filled in: say which in `hosts`.")

    def _check_names(self) -> None:
        """What is filled in must be something that the user, or the authorization server, can give."""
        told = {
            name
            for method in self.auth
            if method.kind == "oauth2" and method.oauth is not None
            for name in method.oauth.told
        }
        properties = self.spec.get("properties", {})
        for method in self.auth:
            if method.kind == "oauth2" and method.oauth_in is not None and method.oauth_in not in properties:
                raise ValueError(f"`spec` has no property {method.oauth_in!r}, where `auth` looks for settings.")
        known = {*(f"config.{name}" for name in properties), *(f"values.{name}" for name in told)}
        for template in self._templates():
            for name in sorted(names_in(template) - known):
                raise ValueError(f"`{{{{ {name} }}}}` is filled in by nobody: neither `spec` nor `auth` tells of it.")

    def _templates(self) -> tuple[str, ...]:
        urls = (self.base_url.of(name) or "" for name in self.base_url.environments())
        regions = (method.region for method in self.auth if method.kind == "aws_sigv4")
        keys = (method.name for method in self.auth if method.kind == "api_key")
        users = (method.username or "" for method in self.auth if method.kind == "basic")
        check = self.check
        return (
            *urls,
            *regions,
            *keys,
            *users,
            check.path,
            *check.query.values(),
            *check.headers.values(),
            *self.headers.values(),
        )
