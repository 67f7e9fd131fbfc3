"""Asking for tokens: every grant, every way of proving who asks."""

import json
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import quote_plus, urlencode

from crossdock.gateway.errors import AddressBlockedError, RequestError, TokenFetchError, TransportError
from crossdock.gateway.headers import HeaderPairs, value_fault
from crossdock.gateway.interpolation import InterpolationError, fill, fill_url
from crossdock.gateway.oauth.answers import (
    TokenAnswer,
    as_text,
    at,
    read_answer,
    read_json,
    read_lookup,
    refuse_to_show,
)
from crossdock.gateway.oauth.assertions import CLIENT_ASSERTION_TYPE, JWT_BEARER_GRANT_TYPE, signed_assertion
from crossdock.gateway.oauth.grants import TokenGrant
from crossdock.gateway.oauth.settings import ClientAuthentication, ExchangeStep, Grant
from crossdock.gateway.transport import OutboundRequest, OutboundResponse, Transport
from crossdock.kit.clock import Clock

_CONNECT_TIMEOUT_S = 10
TOTAL_TIMEOUT_S = 30
_MAX_RESPONSE_BYTES = 64 * 1024

_GRANT_TYPES = {
    Grant.CLIENT_CREDENTIALS: "client_credentials",
    Grant.JWT_BEARER: JWT_BEARER_GRANT_TYPE,
    Grant.PASSWORD: "password",
}


_PERSON = {"username": "{{ credentials.username }}", "password": "{{ credentials.password }}"}


class TokenEndpoint:
    """Asks authorization servers for tokens; keeps nothing.

    Every method raises GrantRevokedError when a person has to connect anew, else TokenFetchError, whose
    `retryable` says whether later may help. The transport's address policy holds here too.
    """

    def __init__(self, *, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock

    async def obtain(self, grant: TokenGrant) -> TokenAnswer:
        """A token for which nobody need be asked: by client credentials, JWT bearer, password or exchange."""
        if grant.settings.grant is Grant.EXCHANGE:
            return await self._exchange(grant)
        grant_type = _GRANT_TYPES.get(grant.settings.grant)
        if grant_type is None:
            raise TokenFetchError("A person has to connect this first.", retryable=False)
        form = self._with_scope(grant, {"grant_type": grant_type})
        if grant.settings.grant is Grant.JWT_BEARER:
            form["assertion"] = self._assertion(grant, self._token_url(grant))
        if grant.settings.grant is Grant.PASSWORD:
            form |= _filled(_PERSON, grant.filling())
        return await self._ask(grant, form)

    async def exchange_code(
        self, grant: TokenGrant, *, code: str, redirect_uri: str, code_verifier: str | None
    ) -> TokenAnswer:
        """The tokens for an authorization code (RFC 6749 section 4.1.3)."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        if code_verifier is not None:
            form["code_verifier"] = code_verifier
        # A code is good once: it must not go out again on another connection.
        return await self._ask(grant, form, repeatable=False)

    async def look_up(self, grant: TokenGrant, answer: TokenAnswer) -> Mapping[str, str]:
        """What the provider's API tells of the connection, where the settings say to ask it. Raises TokenFetchError."""
        lookup = grant.settings.lookup
        if lookup is None:
            return {}
        filling = grant.filling({f"values.{name}": value for name, value in answer.values.items()})
        signed = ("Authorization", f"{grant.settings.token_scheme} {answer.access_token}")
        request = _request(
            "GET",
            _filled_url(lookup.url, filling, grant),
            headers=(*_headers(lookup.headers, filling), signed),
            body=None,
            body_format="json",
            grant=grant,
        )
        told = read_lookup(await self._send(request), lookup.values, now=self._clock.now())
        refuse_to_show([answer.access_token], list(told.values()))
        return told

    async def refresh(self, grant: TokenGrant, refresh_token: str) -> TokenAnswer:
        """New tokens for a refresh token (RFC 6749 section 6); without one in the answer, the old one stays good."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        more = _filled(grant.settings.refresh_parameters, grant.filling())
        # A rotating refresh token is good once, too.
        return await self._ask(grant, more | form, url=self._refresh_url(grant), repeatable=False)

    async def _ask(
        self, grant: TokenGrant, form: dict[str, str], *, url: str | None = None, repeatable: bool = True
    ) -> TokenAnswer:
        settings = grant.settings
        url = url or self._token_url(grant)
        filling = grant.filling()
        form = _filled(settings.token_parameters, filling) | dict(grant.parameters) | form
        headers = self._authenticate(grant, form, url) + _headers(settings.token_headers, filling)
        request = _request("POST", url, headers=headers, body=form, body_format=settings.request_format, grant=grant)
        request.repeatable = repeatable
        return read_answer(await self._send(request), settings.answer, now=self._clock.now())

    async def _exchange(self, grant: TokenGrant) -> TokenAnswer:
        kept: dict[str, str] = {}
        *first, last = grant.settings.steps
        for step in first:
            response = await self._step(grant, step, kept)
            answer = read_json(response, grant.settings.answer, now=self._clock.now())
            for name, path in step.keep.items():
                found = as_text(at(answer, path))
                if found is None:
                    raise TokenFetchError(f"The answer of {_host(step.url)} has no {path}.", retryable=False)
                kept[f"steps.{name}"] = found
        response = await self._step(grant, last, kept)
        return read_answer(response, grant.settings.answer, now=self._clock.now())

    async def _step(self, grant: TokenGrant, step: ExchangeStep, kept: Mapping[str, str]) -> OutboundResponse:
        filling = grant.filling(kept)
        request = _request(
            step.method,
            _filled_url(step.url, filling, grant),
            headers=_headers(step.headers, filling),
            body=_filled(step.body, filling) if step.method == "POST" else None,
            body_format=step.format,
            grant=grant,
        )
        return await self._send(request)

    def _authenticate(self, grant: TokenGrant, form: dict[str, str], url: str) -> HeaderPairs:
        """The headers that prove who asks; what proves it in the body is added to `form`."""
        client = grant.client
        match grant.settings.client_authentication:
            case ClientAuthentication.NONE:
                if "assertion" not in form:  # which names the client itself
                    form["client_id"] = client.id
            case ClientAuthentication.POST:
                form |= {"client_id": client.id, "client_secret": _secret(grant)}
            case ClientAuthentication.PRIVATE_KEY_JWT:
                form |= {
                    "client_id": client.id,
                    "client_assertion_type": CLIENT_ASSERTION_TYPE,
                    "client_assertion": self._assertion(grant, url),
                }
            case ClientAuthentication.BASIC:  # each part form-encoded first: RFC 6749 section 2.3.1
                return (_basic(f"{quote_plus(client.id)}:{quote_plus(_secret(grant))}"),)
            case ClientAuthentication.BASIC_PLAIN:
                return (_basic(f"{client.id}:{_secret(grant)}"),)
        return ()

    def _assertion(self, grant: TokenGrant, audience: str) -> str:
        try:
            return signed_assertion(
                grant.settings.assertion,
                grant.client,
                variables=grant.filling(),
                audience=audience,
                now=self._clock.now(),
            )
        except InterpolationError as error:
            raise _unfilled(error) from None

    def _with_scope(self, grant: TokenGrant, form: dict[str, str]) -> dict[str, str]:
        settings = grant.settings
        return form | {"scope": settings.scope_separator.join(settings.scopes)} if settings.scopes else form

    def _token_url(self, grant: TokenGrant) -> str:
        return _filled_url(grant.settings.token_url, grant.filling(), grant)

    def _refresh_url(self, grant: TokenGrant) -> str:
        return _filled_url(grant.settings.refresh_url or grant.settings.token_url, grant.filling(), grant)

    async def _send(self, request: OutboundRequest) -> OutboundResponse:
        try:
            return await self._transport.send(request)
        except TransportError as error:
            lasting = isinstance(error, RequestError | AddressBlockedError)
            raise TokenFetchError(f"No access token: {error.message}", retryable=not lasting) from error


def _filled_url(template: str | None, filling: Mapping[str, str], grant: TokenGrant) -> str:
    try:
        return fill_url(template or "", filling, hosts=grant.settings.hosts)
    except InterpolationError as error:
        raise _unfilled(error) from None


def _unfilled(error: InterpolationError) -> TokenFetchError:
    return TokenFetchError(f"No access token: {error.message}", retryable=False)


def _secret(grant: TokenGrant) -> str:
    if grant.client.secret is None:
        raise TokenFetchError("The client's secret is not set; enter it.", retryable=False)
    return grant.client.secret


def _basic(pair: str) -> tuple[str, str]:
    return "Authorization", f"Basic {b64encode(pair.encode()).decode()}"


def _filled(templates: Mapping[str, str], filling: Mapping[str, str]) -> dict[str, str]:
    try:
        return {name: fill(text, filling) for name, text in templates.items()}
    except InterpolationError as error:
        raise _unfilled(error) from None


def _headers(templates: Mapping[str, str], filling: Mapping[str, str]) -> HeaderPairs:
    filled = _filled(templates, filling)
    for name, value in filled.items():
        if value_fault(value):
            raise TokenFetchError(f"What is filled into the header {name} cannot stand in one.", retryable=False)
    return tuple(filled.items())


def _request(
    method: str,
    url: str,
    *,
    headers: HeaderPairs,
    body: Mapping[str, str] | None,
    body_format: str,
    grant: TokenGrant,
) -> OutboundRequest:
    content: HeaderPairs = ()
    payload = b""
    if body is not None:
        in_json = body_format == "json"
        content = (("Content-Type", "application/json" if in_json else "application/x-www-form-urlencoded"),)
        payload = json.dumps(body).encode() if in_json else urlencode(body).encode()
    return OutboundRequest(
        method=method,
        url=url,
        headers=(*content, ("Accept", "application/json"), *headers),
        body=payload,
        connect_timeout_s=_CONNECT_TIMEOUT_S,
        total_timeout_s=TOTAL_TIMEOUT_S,
        max_response_bytes=_MAX_RESPONSE_BYTES,
        tls=grant.tls,
        repeatable=True,
    )


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]
