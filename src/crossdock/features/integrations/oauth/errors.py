"""Errors of OAuth.

GrantRevokedError (gateway.errors)
└── NotConnectedError            502  nobody has given permission yet
CrossdockError
└── AuthorizationLinkError       400  the link or the answer is not of an authorization under way in this browser
"""

from typing import ClassVar

from crossdock.gateway.errors import GrantRevokedError
from crossdock.kit.errors import CrossdockError


class NotConnectedError(GrantRevokedError):
    """Nobody has given permission at the provider yet; start the authorization."""

    code = "not_connected"


class AuthorizationLinkError(CrossdockError):
    """The link was used already, has run out, or was opened in another browser. Start anew."""

    code = "authorization_link_invalid"
    status: ClassVar[int] = 400
