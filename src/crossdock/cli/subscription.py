"""`crossdock webhook subscription`: who gets which events, and what became of their deliveries."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from crossdock.bootstrap import Services
from crossdock.cli.command_group import FAILED
from crossdock.cli.commands import InTenant, Limit, OnlyTenant, in_tenant, place_in, provided, run
from crossdock.cli.given import read_secret, read_settings
from crossdock.cli.output import AsJson, print_json, show_one, show_rows
from crossdock.cli.times import moment
from crossdock.features.deliveries.history import DeliveryHistory
from crossdock.features.deliveries.models import (
    BodyFormat,
    DeliveryKind,
    DeliveryStatus,
    KeyKind,
    SubscriptionStatus,
)
from crossdock.features.deliveries.schemas import (
    DeliveryDetail,
    DeliveryOut,
    ReplayOut,
    RotateIn,
    SubscriptionCreated,
    SubscriptionDetail,
    SubscriptionIn,
    SubscriptionOut,
    SubscriptionStats,
)
from crossdock.features.deliveries.service import SubscriptionService
from crossdock.http.pagination import PageRequest
from crossdock.kit.errors import InvalidInputError
from crossdock.kit.ids import IdKind, parse_id

app = typer.Typer(no_args_is_help=True, help="Say who gets which events, and see what became of the deliveries.")

SubscriptionId = Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="Its id, such as sub_0192….")]
DeliveryId = Annotated[str, typer.Argument(metavar="DELIVERY", help="Its id, such as dlv_0192….")]
Url = Annotated[str, typer.Option(help="Where deliveries go; https, or http to this machine where allowed.")]
Types = Annotated[
    list[str] | None, typer.Option("--event-type", "-e", help="A type, with * for whole segments: order.*; repeatable.")
]
Filter = Annotated[str | None, typer.Option("--filter", help="JMESPath; only events it holds for are sent.")]
Transformation = Annotated[str | None, typer.Option(help="JMESPath; its result becomes the body.")]
Format = Annotated[BodyFormat | None, typer.Option("--format", help="What the body is.")]
Headers = Annotated[list[str] | None, typer.Option("--header", help="NAME: VALUE, sent along; repeatable.")]
Timeout = Annotated[int | None, typer.Option(min=5, max=300, help="Seconds that an attempt may take.")]
Retries = Annotated[int | None, typer.Option(min=0, max=10, help="How many attempts follow a failed first one.")]
Intervals = Annotated[
    list[float] | None,
    typer.Option("--retry-after", help="Seconds before a retry; repeatable, the last one counts on."),
]
Concurrency = Annotated[int | None, typer.Option(min=1, max=1_000, help="Most deliveries under way at once.")]
Rate = Annotated[float | None, typer.Option("--rate", help="Most deliveries per second.")]
Ordered = Annotated[bool | None, typer.Option("--ordered/--unordered", help="Strictly one after another.")]
Settings = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="JSON file with further settings as the API has them, such as auth."
    ),
]

_ONCE = "The secret is shown this once; the receiver verifies deliveries with it."
_COLUMNS = ("created_at", "kind", "status", "attempts", "last_status_code", "next_attempt_at", "error", "id")


@app.command()
def create(  # noqa: PLR0913 - each is an option of the command
    name: Annotated[str, typer.Argument(help="What people call it.")],
    *,
    url: Url,
    event_type: Types = None,
    filter_: Filter = None,
    transformation: Transformation = None,
    body_format: Format = None,
    header: Headers = None,
    timeout: Timeout = None,
    retries: Retries = None,
    retry_after: Intervals = None,
    concurrency: Concurrency = None,
    rate: Rate = None,
    ordered: Ordered = None,
    settings: Settings = None,
    signing: Annotated[KeyKind, typer.Option(help="HMAC with a shared secret, or ed25519.")] = KeyKind.SYMMETRIC,
    secret: Annotated[
        str | None, typer.Option(help="A whsec_… or whsk_… of your own, - to read it from standard input.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Try the destination now.")] = True,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """Subscribe a destination; it is active once it has answered a verification request."""
    given = SubscriptionIn.model_validate(
        _settings(
            read_settings(settings),
            name=name,
            url=url,
            event_types=event_type or ["*"],
            filter=filter_,
            transformation=transformation,
            format=body_format,
            headers=_headers(header),
            timeout_s=timeout,
            retry_policy=_retry_policy(retries, retry_after),
            max_concurrency=concurrency,
            rate_limit_per_s=rate,
            ordered=ordered,
            signing=signing,
            secret=read_secret(secret),
            verify=verify,
        )
    )

    async def work(services: Services) -> SubscriptionCreated:
        place = await place_in(services, tenant)
        return await services.subscriptions.create(place.tenant_id, place.actor, given)

    made = run(work)
    show_one(made, as_json=as_json, note=_note(made))


@app.command(name="list")
def list_subscriptions(
    *,
    status: Annotated[SubscriptionStatus | None, typer.Option(help="Those in this state alone.")] = None,
    limit: Limit = 50,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """List subscriptions."""

    async def work(services: Services) -> list[SubscriptionOut]:
        async with in_tenant(services, tenant) as place:
            found = await services.subscriptions.list(place.session, PageRequest(limit=limit), status)
        return [SubscriptionOut.of(one) for one in found[:limit]]

    empty = "No subscriptions; `crossdock webhook subscription create NAME --url URL` makes one."
    show_rows(run(work), ("name", "status", "url", "event_types", "id"), as_json=as_json, empty=empty)


@app.command()
def show(subscription: SubscriptionId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Show one subscription with its signing keys; a symmetric secret is not shown again."""

    async def work(services: Services) -> SubscriptionDetail:
        async with in_tenant(services, tenant) as place:
            return await services.subscriptions.read(place.session, parse_id(IdKind.SUBSCRIPTION, subscription))

    show_one(run(work), as_json=as_json)


@app.command()
def update(  # noqa: PLR0913 - each is an option of the command
    subscription: SubscriptionId,
    *,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    url: Annotated[str | None, typer.Option(help="Where deliveries go; another one must be verified.")] = None,
    event_type: Types = None,
    filter_: Filter = None,
    transformation: Transformation = None,
    body_format: Format = None,
    header: Headers = None,
    timeout: Timeout = None,
    retries: Retries = None,
    retry_after: Intervals = None,
    concurrency: Concurrency = None,
    rate: Rate = None,
    ordered: Ordered = None,
    settings: Settings = None,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """Change the settings that are given; the others stay. With `--settings` null takes a setting back."""
    changes = _settings(
        read_settings(settings),
        name=name,
        url=url,
        event_types=event_type,
        filter=filter_,
        transformation=transformation,
        format=body_format,
        headers=_headers(header),
        timeout_s=timeout,
        retry_policy=_retry_policy(retries, retry_after),
        max_concurrency=concurrency,
        rate_limit_per_s=rate,
        ordered=ordered,
    )
    if not changes:
        raise InvalidInputError("Say what to change; --help lists the settings.")
    show_one(_changed(subscription, tenant, _patch(changes)), as_json=as_json)


@app.command()
def enable(subscription: SubscriptionId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Make a paused, disabled or unverified subscription active; what waited is sent."""
    show_one(_changed(subscription, tenant, _status(SubscriptionStatus.ACTIVE, None)), as_json=as_json)


@app.command()
def pause(subscription: SubscriptionId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Hold deliveries back; they go on gathering until they expire."""
    show_one(_changed(subscription, tenant, _status(SubscriptionStatus.PAUSED, "Paused by hand.")), as_json=as_json)


@app.command()
def disable(subscription: SubscriptionId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Stop at once: no new deliveries, and what waits expires unless it is enabled again."""
    show_one(_changed(subscription, tenant, _status(SubscriptionStatus.DISABLED, "Disabled by hand.")), as_json=as_json)


@app.command()
def delete(subscription: SubscriptionId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Remove a subscription; what waited is cancelled, its history stays."""

    async def work(services: Services) -> None:
        place = await place_in(services, tenant)
        await services.subscriptions.delete(place.tenant_id, place.actor, parse_id(IdKind.SUBSCRIPTION, subscription))

    run(work)
    if as_json:
        print_json({"deleted": subscription})
    else:
        typer.echo(f"Deleted {subscription}.")


@app.command()
def verify(subscription: SubscriptionId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Send a verification request; on 2xx the subscription becomes active. Exit code 1 when it does not."""

    async def work(services: Services) -> SubscriptionCreated:
        place = await place_in(services, tenant)
        key = parse_id(IdKind.SUBSCRIPTION, subscription)
        return await services.subscriptions.verify(place.tenant_id, place.actor, key)

    verified = run(work)
    show_one(verified, as_json=as_json)
    raise typer.Exit(0 if verified.status is SubscriptionStatus.ACTIVE else FAILED)


@app.command(name="test")
def send_test(
    subscription: SubscriptionId,
    *,
    data: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with the test event's data as JSON.")
    ] = None,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """Send a `webhook.test` event now and show what came back. Exit code 1 when it was not delivered."""

    async def work(services: Services) -> DeliveryDetail:
        place = await place_in(services, tenant)
        return await services.trial.send(
            place.tenant_id,
            parse_id(IdKind.SUBSCRIPTION, subscription),
            DeliveryKind.TEST,
            correlation_id=place.actor.correlation_id,
            data=read_settings(data),
        )

    sent = run(work)
    show_one(sent, as_json=as_json)
    raise typer.Exit(0 if sent.status is DeliveryStatus.DELIVERED else FAILED)


@app.command()
def rotate_secret(
    subscription: SubscriptionId,
    *,
    overlap_hours: Annotated[float, typer.Option(min=0, help="Hours for which both sign.")] = 24,
    signing: Annotated[KeyKind | None, typer.Option(help="Change the kind of signature.")] = None,
    secret: Annotated[
        str | None, typer.Option(help="The new one, - to read it from standard input; made if left out.")
    ] = None,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """Make a new signing secret; the old one signs along until the overlap is over."""
    given = RotateIn.model_validate(
        {"overlap_s": round(overlap_hours * 3_600), "signing": signing, "secret": read_secret(secret)}
    )

    async def work(services: Services) -> SubscriptionCreated:
        place = await place_in(services, tenant)
        key = parse_id(IdKind.SUBSCRIPTION, subscription)
        return await services.subscriptions.rotate(place.tenant_id, place.actor, key, given)

    rotated = run(work)
    show_one(rotated, as_json=as_json, note=_note(rotated))


@app.command()
def deliveries(
    subscription: SubscriptionId,
    *,
    status: Annotated[DeliveryStatus | None, typer.Option(help="Those in this state alone.")] = None,
    limit: Limit = 50,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """List a subscription's deliveries."""

    async def work(services: Services) -> list[DeliveryOut]:
        async with in_tenant(services, tenant) as place:
            found = await provided(services, DeliveryHistory).list(
                place.session,
                PageRequest(limit=limit),
                subscription_id=parse_id(IdKind.SUBSCRIPTION, subscription),
                status=status,
            )
        return [DeliveryOut.of(one) for one in found[:limit]]

    show_rows(run(work), _COLUMNS, as_json=as_json, empty="No deliveries yet.")


@app.command()
def delivery(delivery_id: DeliveryId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Show one delivery with every attempt."""

    async def work(services: Services) -> DeliveryDetail:
        async with in_tenant(services, tenant) as place:
            history = provided(services, DeliveryHistory)
            return await history.read(place.session, parse_id(IdKind.DELIVERY, delivery_id))

    show_one(run(work), as_json=as_json)


@app.command()
def replay(delivery_id: DeliveryId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Send a finished delivery again, under the same webhook-id."""

    async def work(services: Services) -> DeliveryOut:
        async with in_tenant(services, tenant) as place:
            history = provided(services, DeliveryHistory)
            return await history.replay(place.session, place.actor, parse_id(IdKind.DELIVERY, delivery_id))

    show_one(run(work), as_json=as_json)


@app.command()
def replay_failed(
    subscription: SubscriptionId,
    *,
    since: Annotated[str, typer.Option(metavar="TIME", help="From then on: 2026-03-14T09:00:00Z, or 15m, 2h, 7d.")],
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """Send again what failed since then and was not made good since, the oldest 1,000 at most."""
    start = moment(since)

    async def work(services: Services) -> ReplayOut:
        async with in_tenant(services, tenant) as place:
            key = parse_id(IdKind.SUBSCRIPTION, subscription)
            return await provided(services, DeliveryHistory).replay_failed(place.session, place.actor, key, start)

    show_one(run(work), as_json=as_json)


@app.command()
def stats(subscription: SubscriptionId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Show how a subscription does."""

    async def work(services: Services) -> SubscriptionStats:
        async with in_tenant(services, tenant) as place:
            return await services.subscriptions.stats(place.session, parse_id(IdKind.SUBSCRIPTION, subscription))

    show_one(run(work), as_json=as_json)


_Change = Callable[[SubscriptionService, InTenant, UUID], Awaitable[SubscriptionDetail]]


def _changed(subscription: str, tenant: str | None, change: _Change) -> SubscriptionDetail:
    async def work(services: Services) -> SubscriptionDetail:
        place = await place_in(services, tenant)
        return await change(services.subscriptions, place, parse_id(IdKind.SUBSCRIPTION, subscription))

    return run(work)


def _patch(changes: dict[str, Any]) -> _Change:
    return lambda service, place, key: service.patch(place.tenant_id, place.actor, key, changes)


def _status(status: SubscriptionStatus, reason: str | None) -> _Change:
    return lambda service, place, key: service.set_status(place.tenant_id, place.actor, key, status, reason)


def _settings(from_file: Any, **given: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """What the file says, and on top of it the options that were given."""
    if from_file is not None and not isinstance(from_file, dict):
        raise InvalidInputError("The file of --settings must hold a JSON object.")
    return (from_file or {}) | {name: value for name, value in given.items() if value is not None}


def _headers(lines: list[str] | None) -> dict[str, str] | None:
    if not lines:
        return None
    pairs = [line.partition(":") for line in lines]
    if not all(colon for _, colon, _ in pairs):
        raise InvalidInputError("A header is written NAME: VALUE.")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _retry_policy(retries: int | None, intervals: list[float] | None) -> dict[str, Any] | None:
    policy: dict[str, Any] = {}
    if retries is not None:
        policy["retries"] = retries
    if intervals:
        policy["intervals_s"] = intervals
    return policy or None


def _note(made: SubscriptionCreated) -> str | None:
    if made.secret is not None:
        return _ONCE
    return None if made.status is SubscriptionStatus.ACTIVE else made.status_reason
