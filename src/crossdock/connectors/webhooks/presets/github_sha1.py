"""GitHub's older signature, `X-Hub-Signature`: HMAC-SHA1, for senders that make no other.

GitHub itself sends it beside the newer one, for which there is the preset github. Others that took
over GitHub's way (WebSub hubs, older GitHub Enterprise Server) may have this one alone.
"""

from dataclasses import replace

from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.presets.github import GITHUB
from crossdock.connectors.webhooks.scheme import HmacScheme
from crossdock.connectors.webhooks.shared_tokens import SHORTEST

GITHUB_SHA1 = replace(
    GITHUB,
    name="github_sha1",
    title="GitHub (legacy SHA-1)",
    how_to="Only for senders without X-Hub-Signature-256: enter the URL and the secret you choose there.",
    signature=HmacSignature(
        HmacScheme(header="X-Hub-Signature", prefix="sha1=", algorithm="sha1"), shortest_secret=SHORTEST
    ),
)
