"""Makes what the edge calls: see `Services`."""

from urllib.parse import urlsplit

from app.api.deps import Services
from app.audit.log import AuditTrail
from app.auth.access import AccessCheck
from app.auth.client_tokens.service import ClientTokens
from app.auth.directory.keys import KeyDirectory
from app.auth.directory.plans import PlanDirectory
from app.auth.directory.users import UserDirectory
from app.auth.models import Holder
from app.auth.oidc.keys import IssuerKeys
from app.auth.oidc.service import OidcSignIn
from app.auth.oidc.verifier import OidcVerifier
from app.auth.operators import OperatorGate
from app.auth.service import AuthService
from app.bootstrap.base import Base
from app.bootstrap.remotes import Remotes
from app.bootstrap.stores import Stores
from app.db.notices import Notices
from app.events.hub import Hub
from app.events.log import CHANNEL
from app.jobs.feed import JobFeed
from app.jobs.intake import JobIntake
from app.jobs.links import JobLinks
from app.jobs.operations.health import HealthService
from app.jobs.operations.metrics_page import MetricsPage
from app.jobs.operations.operator import OperatorJobs
from app.jobs.operations.overview import JobOverview
from app.jobs.operations.traffic import JobTraffic
from app.jobs.service import JobService
from app.jobs.wire import JobWire
from app.media.inspector import MediaInspector
from app.net.origins import origin_of
from app.quotas.prices import PricesService
from app.quotas.service import QuotaService
from app.quotas.shadow import ShadowFindings
from app.webhooks.addresses import WebhookAddresses
from app.webhooks.service import WebhookService


def make_services(base: Base, remotes: Remotes, stores: Stores) -> Services:
    settings, database, clock = base.settings, base.database, base.clock
    doorbells = base.doorbells
    known_models = stores.catalogue.input_fields
    addresses = WebhookAddresses(base.configs.webhook_reach)
    prices = PricesService(database=database, clock=clock, models=known_models)
    job_timeout = base.configs.queue.job_timeout
    quotas = QuotaService(database=database, clock=clock, job_timeout=job_timeout)
    inspector = MediaInspector(
        remote=remotes.media,
        files=stores.files,
        config=base.configs.inspector,
        clock=clock,
    )
    return Services(
        archive=stores.archive,
        audit=AuditTrail(database=database),
        auth=_auth(base, remotes.issuer_keys),
        base_path=urlsplit(base.public_url).path.rstrip("/"),
        catalogue=stores.catalogue,
        metrics_page=MetricsPage(
            database=database,
            archive=stores.archive,
            roster=stores.roster,
            metrics=base.metrics,
            clock=clock,
        ),
        client_tokens=ClientTokens(
            database=database,
            clock=clock,
            known_models=known_models,
            origins={*settings.cors_origins, origin_of(base.public_url)},
        ),
        clock=clock,
        closing=base.closing,
        feed=JobFeed(database=database),
        file_links=stores.file_links,
        files=stores.files,
        health=HealthService(database=database, roster=stores.roster, clock=clock),
        hub=_hub(base),
        intake=JobIntake(
            database=database,
            catalogue=stores.catalogue,
            clock=clock,
            dispatcher=doorbells.dispatcher,
            media=inspector,
            forecast=stores.forecast,
            webhook_addresses=addresses,
            prices=prices,
            quotas=quotas,
            tracing=base.tracing,
            media_reach=base.configs.media_reach,
            inputs=stores.inputs,
            file_life=base.configs.uploads.life,
            job_timeout=job_timeout,
        ),
        jobs=JobService(
            database=database,
            clock=clock,
            closing=base.closing,
            forecast=stores.forecast,
            poller=doorbells.poller,
            deliverer=doorbells.deliverer,
            sweeper=stores.sweeper,
        ),
        keys=KeyDirectory(database=database, clock=clock, known_models=known_models),
        links=JobLinks(public_url=base.public_url, signer=base.signer("job links")),
        metrics_token=settings.metrics_token,
        operator_jobs=OperatorJobs(
            database=database,
            clock=clock,
            dispatcher=doorbells.dispatcher,
            poller=doorbells.poller,
            late_watch=base.configs.queue.late_watch,
            deliverer=doorbells.deliverer,
        ),
        operators=OperatorGate(settings.admin_token, clock=clock),
        outputs=remotes.outputs,
        overview=JobOverview(database=database, clock=clock),
        plans=PlanDirectory(database=database, clock=clock, known_models=known_models),
        prices=prices,
        quotas=quotas,
        shadow=ShadowFindings(database=database),
        traffic=JobTraffic(
            database=database, clock=clock, dispatcher=doorbells.dispatcher, roster=stores.roster
        ),
        uploads=stores.uploads,
        users=UserDirectory(database=database, clock=clock),
        webhooks=WebhookService(
            database=database,
            safe=stores.safe,
            addresses=addresses,
            clock=clock,
            deliverer=doorbells.deliverer,
        ),
        wire=JobWire(
            public_url=base.public_url,
            signer=base.signer("output links"),
            durations=stores.forecast.durations,
        ),
    )


def _auth(base: Base, issuer_keys: IssuerKeys | None) -> AuthService:
    oidc = None
    if base.settings.oidc is not None and issuer_keys is not None:
        oidc = OidcSignIn(
            database=base.database,
            clock=base.clock,
            verifier=OidcVerifier(base.settings.oidc, keys=issuer_keys, clock=base.clock),
            follows_plan=base.settings.oidc.plan_claim is not None,
        )
    return AuthService(
        database=base.database, clock=base.clock, own_origin=origin_of(base.public_url), oidc=oidc
    )


def _hub(base: Base) -> Hub[Holder]:
    notices = None
    if not base.settings.is_sqlite:
        notices = Notices(base.settings.database_url, channel=CHANNEL, clock=base.clock)
    return Hub(
        database=base.database,
        clock=base.clock,
        closing=base.closing,
        notices=notices,
        lost=AccessCheck(database=base.database, clock=base.clock).lost,
        most_per_user=base.settings.max_streams_per_user,
    )
