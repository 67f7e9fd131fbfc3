"""What API and command line tell of a preset; it imports little, so that a command that needs no more is quick."""

from typing import Any

from pydantic import Field

from crossdock.connectors.webhooks import Preset, SecretOrigin
from crossdock.http.schemas import View


class PresetOut(View):
    """A kind of sender that Crossdock knows."""

    name: str
    title: str
    how_to: str
    needs_secret: bool
    secret_from: SecretOrigin | None = Field(description="Who makes the secret; null where none is needed.")
    settings_schema: dict[str, Any] | None = Field(description="JSON Schema of its `settings`; null if it takes none.")
    needs_settings: bool = Field(description="Whether it accepts nothing without settings.")

    @classmethod
    def of(cls, preset: Preset) -> "PresetOut":
        """From the library's preset."""
        return cls(
            name=preset.name,
            title=preset.title,
            how_to=preset.how_to,
            needs_secret=preset.signature.needs_secret,
            secret_from=preset.secret_from if preset.signature.needs_secret else None,
            settings_schema=None if preset.configured is None else preset.configured.settings.model_json_schema(),
            needs_settings=preset.needs_settings,
        )
