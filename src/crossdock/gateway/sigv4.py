"""AWS Signature Version 4, by botocore, whose import takes longer than all the rest: only who signs pays for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from crossdock.gateway.credentials import Draft, Signer, with_headers
from crossdock.gateway.transport import TlsIdentity

_NO_VALUES: Mapping[str, str] = MappingProxyType({})
_S3 = "s3"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKeys:
    """An access key, with its session token if it is a passing one."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class SigV4:
    """Signs each attempt anew, for one service in one region; the whole body is signed with it."""

    needs_body = True
    values = _NO_VALUES
    tls: TlsIdentity | None = None

    def __init__(self, keys: AwsKeys, *, service: str, region: str) -> None:
        self._keys = keys
        self._service = service
        self._region = region
        self._auth: Any = None
        self.secrets = tuple(secret for secret in (keys.secret_access_key, keys.session_token) if secret)

    async def ready(self) -> Signer:
        """Itself."""
        if self._auth is None:
            self._auth = self._signing()
        return self

    def sign(self, draft: Draft) -> None:
        """Set Authorization, X-Amz-Date and what else belongs to a signature."""
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415 # see above

        # Signed headers must arrive as they are, so nothing else may be: what a proxy changes stays out.
        signed = {name: value for name, value in draft.headers if _is_signed(name)}
        request = AWSRequest(method=draft.method, url=draft.url, data=draft.body, headers=signed)
        self._auth.add_auth(request)
        added = tuple((name, str(value)) for name, value in request.headers.items() if name not in signed)
        draft.headers = with_headers(draft.headers, added)

    def refused(self) -> bool:
        """There is nothing better."""
        return False

    def _signing(self) -> object:
        from botocore.auth import S3SigV4Auth, SigV4Auth  # noqa: PLC0415 # see above
        from botocore.credentials import Credentials  # noqa: PLC0415 # see above

        keys = Credentials(self._keys.access_key_id, self._keys.secret_access_key, self._keys.session_token)
        kind = S3SigV4Auth if self._service == _S3 else SigV4Auth
        return kind(keys, self._service, self._region)


def _is_signed(name: str) -> bool:
    lowered = name.lower()
    return lowered == "content-type" or (lowered.startswith("x-amz-") and lowered not in _SET_BY_SIGNING)


_SET_BY_SIGNING = frozenset({"x-amz-date", "x-amz-security-token", "x-amz-content-sha256"})
