"""The vault's state, and outside secret stores, as the command line and the API show and take them."""

from datetime import datetime

from pydantic import Field

from crossdock.http.schemas import View


class RingKeyView(View):
    """A key of the ring, or one that is missing there; never the key itself."""

    id: str
    configured: bool = Field(description="Whether it is in CROSSDOCK_ENCRYPTION_KEYS, or the file in its place.")
    in_use: bool = Field(description="Whether it wraps what is written now.")
    data_keys: int = Field(description="Tenants' data keys that it wraps.")
    old_secrets: int = Field(description="Secrets from before the vault that it seals itself.")
    verdict: str = Field(description="What to do about it.")


class VaultStatus(View):
    """Which keys are there, which are needed, and whether everything is under the newest."""

    keys: list[RingKeyView]
    chosen_at: datetime | None = Field(description="Since when the key in use is; null before the first secret.")
    waiting_secrets: int = Field(description="Secrets that workers have yet to seal under their tenant's newest key.")
    done: bool = Field(description="Whether nothing is left to be done since the last change of keys.")
