"""What a user or an API key may be allowed to do (requirement T2)."""

from enum import StrEnum


class Permission(StrEnum):
    """One permission; roles and API keys are sets of these."""

    INTEGRATION_READ = "integration:read"
    INTEGRATION_MANAGE = "integration:manage"
    INTEGRATION_ADMIN = "integration:admin"
    WEBHOOK_READ = "webhook:read"
    WEBHOOK_MANAGE = "webhook:manage"
    EVENT_READ = "event:read"
    EVENT_PUBLISH = "event:publish"
    APIKEY_MANAGE = "apikey:manage"
    SYNC_READ = "sync:read"
    SYNC_MANAGE = "sync:manage"
    MAPPING_READ = "mapping:read"
    MAPPING_MANAGE = "mapping:manage"
    TEMPLATE_MANAGE = "template:manage"
    LOGS_READ = "logs:read"
    AUDIT_READ = "audit:read"
    TENANT_ADMIN = "tenant:admin"


ALL_PERMISSIONS = frozenset(Permission)
