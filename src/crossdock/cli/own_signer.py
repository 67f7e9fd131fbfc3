"""Keys of the installation's own, for trying out senders whose keys nobody else has."""

import typer

from crossdock.connectors.webhooks import Preset
from crossdock.connectors.webhooks.certificate_signature import CertificateSignature
from crossdock.connectors.webhooks.presets.sendgrid import SendGridSignature, new_private_key, public_key_of
from crossdock.connectors.webhooks.trial_certificates import signing_as
from crossdock.kit.errors import InvalidInputError
from crossdock.kit.secret_files import read_or_make
from crossdock.settings import Settings


def own_signer(preset: Preset, secret: str) -> tuple[Preset, str]:
    """The preset and the secret to sign with: those given, where the sender signs with a secret.

    Where it signs with a private key, one of our own takes its place, and standard error says what the
    endpoint needs in order to believe it.
    """
    method = preset.signature
    if isinstance(method, CertificateSignature):
        # Only here: it takes seconds to import, and who signs with a secret should not wait for it.
        from crossdock.bootstrap import trial_folder, trial_identity  # noqa: PLC0415

        settings = Settings()
        if not settings.trust_test_webhooks:
            _say(
                f"{preset.title} signs with a certificate's key that nobody else has. This is signed with the key in "
                f"{trial_folder(settings)}, which a hub with the same data folder believes if "
                "CROSSDOCK_TRUST_TEST_WEBHOOKS=true is set for it."
            )
        return signing_as(preset, trial_identity(settings, preset.name, method)), secret
    if isinstance(method, SendGridSignature) and not secret:
        from crossdock.bootstrap import trial_folder  # noqa: PLC0415 - as above

        path = trial_folder(Settings()) / f"{preset.name}.pem"
        secret = read_or_make(path, new_private_key)
        _say(f"Signed with the key in {path}. For the endpoint to believe it, its secret has to be:")
        _say(public_key_of(secret))
    if method.needs_secret and not secret:
        raise InvalidInputError(
            f"Say what {preset.title} signs with: --secret, or CROSSDOCK_WEBHOOK_SECRET; the endpoint has the same."
        )
    return preset, secret


def _say(text: str) -> None:
    typer.echo(text, err=True)
