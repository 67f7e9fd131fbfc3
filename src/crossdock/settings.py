"""Every setting of an installation, with its default and meaning; read by entry points and bootstrap only.

Each is an environment variable `CROSSDOCK_<NAME>`, or a line of the file `CROSSDOCK_SETTINGS_FILE`
names (`NAME=value` lines, with the prefix).
"""

import os
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from crossdock.kit.errors import InvalidInputError
from crossdock.kit.setting_names import PREFIX, check_names

_SETTINGS_FILE = "CROSSDOCK_SETTINGS_FILE"
# What else is read under our prefix: by commands, by what the documentation shows for a shell, by the tests.
_NO_SETTINGS = (
    _SETTINGS_FILE,
    "CROSSDOCK_TENANT",
    "CROSSDOCK_WEBHOOK_SECRET",
    "CROSSDOCK_KEY",
    "CROSSDOCK_TEST_DATABASE_URL",
)

_CommaSeparated = Annotated[tuple[str, ...], NoDecode]


class UnreadableSettingsFileError(InvalidInputError):
    """The file with the settings cannot be read."""

    code = "unreadable_settings_file"


class Settings(BaseSettings):
    """One installation's settings."""

    # An input that is wrong may be a secret.
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", hide_input_in_errors=True)

    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("crossdock", appauthor=False)),
        description="Where the embedded database, the generated keys and the logs live.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="Address of an outside PostgreSQL (15 or later) as its owner; without it Crossdock runs its own.",
    )
    encryption_keys: SecretStr | None = Field(
        default=None,
        description="Comma-separated 32-byte keys in base64; `crossdock vault rotate` takes the first into use. "
        "Made in the data folder if unset.",
    )
    operator_key: SecretStr | None = Field(
        default=None,
        description="Opens the operator's part of the API (tenants); made in the data folder if unset.",
    )
    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    port: int = Field(default=8400, ge=0, le=65535, description="Port the API listens on; 0 takes a free one.")
    worker_port: int | None = Field(
        default=None, description="Port on which a `crossdock worker` answers /health and /metrics; none if unset."
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Equal processes that `crossdock serve`, `api` and `worker` run each; worth it above one core.",
    )
    public_url: str | None = Field(
        default=None, description="Where the world reaches this hub, such as https://hub.example.com."
    )
    oauth_return_origins: _CommaSeparated = Field(
        default=(),
        description="Origins (https://app.example.com) that browsers may be sent back to after an OAuth authorization.",
    )
    trusted_proxies: _CommaSeparated = Field(
        default=(), description="Addresses or networks of proxies whose X-Forwarded-* headers are believed."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="json for machines, console for people; auto takes console on a terminal."
    )
    allow_loopback: bool = Field(
        default=False, description="Let deliveries go to this machine over http; for development."
    )
    allowed_networks: _CommaSeparated = Field(
        default=(), description="Inner networks (CIDR) that deliveries may reach in spite of being private."
    )
    provider_folders: _CommaSeparated = Field(
        default=(),
        description="Folders with providers of your own beside the shipped ones: each has <code>/manifest.yaml files.",
    )
    trust_test_webhooks: bool = Field(
        default=False,
        description="Believe what `crossdock webhook sign` makes in place of PayPal and Amazon SNS; for development: "
        "whoever can read the data folder can then forge their webhooks.",
    )
    require_event_types: bool = Field(
        default=False, description="Refuse events whose type is not in the tenant's catalogue."
    )
    max_payload_bytes: int = Field(default=1_048_576, ge=1_024, description="Largest event payload and webhook body.")
    inline_body_bytes: int = Field(
        default=131_072, ge=1_024, description="Webhook bodies above this go to the file store instead of the database."
    )
    max_upload_bytes: int = Field(
        default=33_554_432, ge=1_024, description="Largest webhook body that is multipart/form-data, files and all."
    )
    max_upload_files: int = Field(default=20, ge=1, description="Files that one multipart webhook may bring.")
    max_upload_file_bytes: int = Field(default=33_554_432, ge=1_024, description="Largest file in a multipart webhook.")
    large_bodies_at_once: int = Field(
        default=8,
        ge=1,
        description="Large webhook bodies in one process's memory at a time; others wait, then get 503.",
    )
    files: Literal["disk", "s3"] = Field(
        default="disk", description="Where large webhook bodies are kept: `files` in the data folder, or a bucket."
    )
    files_s3_bucket: str | None = Field(default=None, description="The bucket, which must exist already.")
    files_s3_prefix: str = Field(default="", description="What the keys of our objects begin with in the bucket.")
    files_s3_endpoint_url: str | None = Field(
        default=None, description="Address of an S3-compatible storage; AWS's own if unset."
    )
    files_s3_region: str | None = Field(
        default=None, description="The bucket's region; as AWS's usual settings if unset."
    )
    files_s3_access_key_id: SecretStr | None = Field(
        default=None, description="Access key for the bucket; found as AWS's own tools find it if unset."
    )
    files_s3_secret_access_key: SecretStr | None = Field(default=None, description="The secret of that access key.")
    files_s3_path_style: bool = Field(
        default=False, description="Name the bucket in the path, as MinIO and others want it."
    )
    max_batch_bytes: int = Field(default=16_777_216, ge=1_024, description="Largest body of a batch of events, whole.")
    max_call_body_bytes: int = Field(
        default=1_073_741_824,
        ge=1_024,
        description="Largest body of a call that passes through to a provider, and of its answer.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        description="Where traces go, such as http://127.0.0.1:4318/v1/traces (OTLP over HTTP); nowhere if unset. "
        "Needs `pip install 'crossdock[tracing]'`.",
    )
    max_key_rate_per_hour: int = Field(
        default=10_000, ge=1, description="Highest hourly limit that an API key may be given."
    )
    max_subscriptions: int = Field(default=50, ge=1, description="Subscriptions a tenant may have.")
    # Not below the longest expiry (policies.MAX_EXPIRY_S): a day's partition goes with all that is pending in it.
    retention_days: int = Field(default=30, ge=3, description="Days that events, deliveries and receipts are kept.")
    key_audit_days: int = Field(default=365, ge=30, description="Days that the audit log is kept.")
    secret_reminder_days: int = Field(
        default=90, ge=1, description="Days after which an alert asks to change a secret that was typed in."
    )
    breaker_failures: int = Field(default=5, ge=1, description="Failures in a row that open a destination's breaker.")
    breaker_open_s: float = Field(default=60, gt=0, description="Seconds a breaker stays open before it probes.")
    breaker_successes: int = Field(default=3, ge=1, description="Successful probes that close a breaker.")
    disable_after_failed: int = Field(
        default=10,
        ge=1,
        description="Deliveries in a row that used up their retries before a subscription is disabled.",
    )
    lease_s: float = Field(
        default=10,
        gt=0.5,
        description="Seconds a worker's lanes stay its own without renewal; its jobs, half as long again.",
    )
    drain_timeout_s: float = Field(default=20, ge=0, description="Seconds a stopping process lets work in hand finish.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - ours is the file named when this is called
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - there is no folder of secrets
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, the environment, the settings file; raises UnknownSettingError for names that nothing has."""
        known = [*(f"{PREFIX}{name.upper()}" for name in cls.model_fields), *_NO_SETTINGS]
        check_names(os.environ, known=known, place="in the environment")
        named = os.environ.get(_SETTINGS_FILE)
        if not named:
            return init_settings, env_settings
        file = Path(named).expanduser()
        if file.is_dir() or not os.access(file, os.R_OK):
            raise UnreadableSettingsFileError(
                f"{_SETTINGS_FILE} names {file}, which cannot be read; correct or unset it."
            )
        from_file = DotEnvSettingsSource(settings_cls, env_file=file)
        check_names(from_file.env_vars, known=known, place=f"in {file}")
        return init_settings, env_settings, from_file

    @model_validator(mode="after")
    def _know_the_bucket(self) -> "Settings":
        if self.files == "s3" and not self.files_s3_bucket:
            raise ValueError("CROSSDOCK_FILES=s3 needs the bucket's name in CROSSDOCK_FILES_S3_BUCKET")
        return self

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, object]) -> dict[str, object]:
        for name in ("oauth_return_origins", "trusted_proxies", "allowed_networks", "provider_folders"):
            value = values.get(name)
            if isinstance(value, str):
                values[name] = tuple(part.strip() for part in value.split(",") if part.strip())
        return values
