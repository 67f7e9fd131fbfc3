"""Providers as data: what a manifest says, and where manifests are found."""

from crossdock.connectors.manifest.auth import AuthMethod, CredentialField, SecretForm, asked_by, needs_consent
from crossdock.connectors.manifest.errors import InvalidManifestError, UnknownProviderError
from crossdock.connectors.manifest.library import ProviderLibrary
from crossdock.connectors.manifest.loader import load_manifest, manifest_schema, parse_manifest
from crossdock.connectors.manifest.model import (
    EXCLUSIVE_CATEGORIES,
    BaseUrls,
    Capabilities,
    Category,
    ConnectionCheck,
    Manifest,
    ProviderStatus,
    RateLimit,
)

__all__ = [
    "EXCLUSIVE_CATEGORIES",
    "AuthMethod",
    "BaseUrls",
    "Capabilities",
    "Category",
    "ConnectionCheck",
    "CredentialField",
    "InvalidManifestError",
    "Manifest",
    "ProviderLibrary",
    "ProviderStatus",
    "RateLimit",
    "SecretForm",
    "UnknownProviderError",
    "asked_by",
    "load_manifest",
    "manifest_schema",
    "needs_consent",
    "parse_manifest",
]
