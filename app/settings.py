"""The settings, read from the environment once at start; the README's table explains them."""

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.auth.oidc.verifier import OidcConfig
from app.auth.operators import AdminToken, parse_admin_tokens
from app.core.errors import ConfigurationError
from app.core.logging import LogFormat, LogLevel
from app.core.suggestions import nearest
from app.db.engine import parse_url
from app.media.inspector import InspectMode
from app.net.addresses import literal_ip
from app.net.origins import DEFAULT_PORTS, checked_origin
from app.net.reach import IPNetwork
from app.upstream.accounts import PLACEHOLDERS, Account, parse_accounts

RUNCOMFY_URL = "https://model-api.runcomfy.net"
SANDBOX = "sandbox"
SHORTEST_SECRET = 32
_TOKEN = re.compile(r"[!-+\--~]+")  # visible ASCII without comma
_MODEL_PATTERN = re.compile(r"(?=.*\*|[^/]+(/[^/]+){1,4}$)[\w.*/-]{1,256}", re.ASCII)
_HOST_PATTERN = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def _from_text(read: Callable[[str], object]) -> BeforeValidator:
    """Parse text from the environment; `explicit_settings` may pass parsed values."""
    return BeforeValidator(lambda value: read(value) if isinstance(value, str) else value)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _plain_url(value: str) -> str:
    """Check a URL and leave it as it is: tokens must name their issuer in exactly this form."""
    if urlsplit(value).scheme not in DEFAULT_PORTS:
        raise ValueError("must begin with https:// or http://")
    TypeAdapter(HttpUrl).validate_python(value)
    if "?" in value or "#" in value:
        raise ValueError("must not have a query or fragment")
    return value


def _base_url(value: str) -> str:
    """Check a URL to which paths are appended."""
    if "@" in urlsplit(value).netloc:
        raise ValueError("must not have a user")
    return _plain_url(value).rstrip("/")


def _is_loopback(host: str | None) -> bool:
    ip = literal_ip(host or "")
    return host == "localhost" or (ip is not None and ip.is_loopback)


def _upstream_url(value: str) -> str:
    base = value if value == SANDBOX else _base_url(value)
    if base.endswith("/v1"):
        raise ValueError("must end before the /v1 with which each call begins")
    return base


def _database_url(value: str) -> str:
    parse_url(value)
    return value


def _storage_url(value: str) -> str:
    parts = urlsplit(value)
    folder = parts.scheme == "file" and not parts.netloc and len(parts.path) > 1
    if not folder and not (parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc):
        raise ValueError("must be file:///folder or s3://bucket/prefix")
    return value


def _metrics_token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text.lower() in PLACEHOLDERS:
        raise ValueError("is a placeholder, not a token")
    if not _TOKEN.fullmatch(text):
        raise ValueError("must be one token of visible ASCII characters, without commas")
    return value


def _keys(text: str) -> tuple[str, ...]:
    keys = _split(text)
    if not keys or any(len(key.encode()) < SHORTEST_SECRET for key in keys):
        raise ValueError(f"each key must be at least {SHORTEST_SECRET} bytes long")
    return keys


def _host_patterns(value: tuple[str, ...]) -> tuple[str, ...]:
    patterns = tuple(pattern.lower() for pattern in value)
    for pattern in patterns:
        if not _HOST_PATTERN.fullmatch(pattern):
            raise ValueError(f"{pattern[:80]!r} is not a host name, nor one with *. before it")
    return patterns


def _network(text: str) -> IPNetwork:
    try:
        network = ip_network(text, strict=False)
    except ValueError as exc:
        raise ValueError(f"{text[:80]!r} is not a network like 10.0.0.0/8") from exc
    if ip_interface(text).ip != network.network_address:
        raise ValueError(f"write {text!r} as {str(network)!r}")
    return network


def _model_patterns(value: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in value:
        if not _MODEL_PATTERN.fullmatch(pattern):
            raise ValueError(f"{pattern[:80]!r} is not a model id, nor one with * in it")
    return value


CommaSeparated = (NoDecode, _from_text(_split))


class Settings(BaseSettings):
    """Make it with `load_settings` or `explicit_settings`; importing this module reads nothing."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_",
        env_file=".env",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    api_token: Annotated[tuple[Account, ...], NoDecode, _from_text(parse_accounts)] = Field(
        default=(), validation_alias="RUNCOMFY_API_TOKEN"
    )
    upstream_url: Annotated[str, AfterValidator(_upstream_url)] = RUNCOMFY_URL
    database_url: Annotated[str, AfterValidator(_database_url)] = "sqlite:///gateway.db"
    admin_token: Annotated[tuple[AdminToken, ...], NoDecode, _from_text(parse_admin_tokens)] = ()
    secret_key: Annotated[tuple[SecretStr, ...], NoDecode, _from_text(_keys)] = ()
    public_url: Annotated[str, AfterValidator(_base_url)] | None = None
    cors_origins: Annotated[
        tuple[Annotated[str, AfterValidator(checked_origin)], ...], *CommaSeparated
    ] = ()
    max_in_flight: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    polls_per_second: Annotated[int, Field(ge=1, le=100_000)] = 50
    lease_seconds: Annotated[float, Field(ge=3, le=3600)] = 30
    job_timeout_seconds: Annotated[float, Field(ge=1, le=2_592_000)] = 3600
    late_watch_seconds: Annotated[float, Field(ge=0, le=2_592_000)] = 86_400
    late_success: Literal["charge", "free"] = "charge"
    submit_unknown_hours: Annotated[float, Field(gt=0, le=8760)] = 24
    submit_unknown_policy: Literal["settle", "release"] = "settle"
    submit_retry_statuses: Annotated[
        tuple[Annotated[int, Field(ge=400, le=599)], ...], *CommaSeparated
    ] = (429,)
    inspect_media: InspectMode = "require"
    allow_private_networks: bool = False
    webhook_networks: Annotated[
        tuple[Annotated[IPNetwork, BeforeValidator(_network)], ...], *CommaSeparated
    ] = ()
    output_hosts: Annotated[tuple[str, ...], *CommaSeparated, AfterValidator(_host_patterns)] = (
        "*.runcomfy.net",
        "*.runcomfy.com",
    )
    models: Annotated[tuple[str, ...], *CommaSeparated, AfterValidator(_model_patterns)] = ()
    catalogue_refresh_seconds: Annotated[float, Field(ge=0, le=2_592_000)] = 3600
    storage_url: Annotated[str, AfterValidator(_storage_url)] | None = None
    archive_outputs: bool | None = None
    output_risk_hours: Annotated[float, Field(gt=0, le=8760)] = 6
    retention_days: Annotated[float, Field(gt=0, le=36_500)] = 90
    file_days: Annotated[float, Field(gt=0, le=3650)] = 7
    max_streams_per_user: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    max_body_bytes: Annotated[int, Field(ge=1024, le=2**31)] = 64 * 2**20
    oidc_issuer: Annotated[str, AfterValidator(_plain_url)] | None = None
    oidc_audience: str | None = None
    oidc_user_claim: str = "sub"
    oidc_plan_claim: str | None = None
    log_format: LogFormat = "json"
    log_level: LogLevel = "info"
    metrics_token: Annotated[SecretStr, AfterValidator(_metrics_token)] | None = None
    sandbox_speed: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0

    @model_validator(mode="after")
    def _require_safe_oidc(self) -> "Settings":
        if self.oidc_issuer is None:
            return self
        if self.oidc_audience is None:
            raise ValueError(
                "GATEWAY_OIDC_AUDIENCE is not set, and without it the gateway would take tokens"
                " that GATEWAY_OIDC_ISSUER made for others: set it to what `aud` says in yours"
            )
        parts = urlsplit(self.oidc_issuer)
        if parts.scheme == "http" and not (
            self.allow_private_networks or _is_loopback(parts.hostname)
        ):
            raise ValueError(
                "GATEWAY_OIDC_ISSUER: keys that come by http could be anybody's; use https"
            )
        return self

    @property
    def oidc(self) -> OidcConfig | None:
        if self.oidc_issuer is None:
            return None
        assert self.oidc_audience is not None
        return OidcConfig(
            issuer=self.oidc_issuer,
            audience=self.oidc_audience,
            user_claim=self.oidc_user_claim,
            plan_claim=self.oidc_plan_claim,
        )

    @property
    def is_sandboxed(self) -> bool:
        return self.upstream_url == SANDBOX

    @property
    def archives(self) -> bool:
        """Whether outputs are copied: by default if storage is set."""
        has_storage = self.storage_url is not None
        return has_storage if self.archive_outputs is None else self.archive_outputs

    @property
    def sqlite_path(self) -> Path | None:
        """The database file, or None on Postgres."""
        named = parse_url(self.database_url).database  # without options
        return Path(named) if self.is_sqlite and named else None

    @property
    def is_sqlite(self) -> bool:
        return self.database_url.startswith("sqlite:")

    def require_upstream(self) -> None:
        """Raise ConfigurationError unless jobs can be sent somewhere and links can be signed."""
        if not self.api_token and not self.is_sandboxed:
            without = ", or set GATEWAY_UPSTREAM_URL=sandbox to work without an account"
            raise ConfigurationError(
                "RUNCOMFY_API_TOKEN is not set: put the token of your RunComfy account there"
                f" (runcomfy.com, Profile, API Tokens){without if self.is_sqlite else ''}."
            )
        if self.is_sandboxed and not self.is_sqlite:
            raise ConfigurationError(
                "GATEWAY_UPSTREAM_URL=sandbox keeps its requests beside the SQLite file, but this"
                " is Postgres: run `gateway sandbox` and set GATEWAY_UPSTREAM_URL to its address."
            )
        if self.archive_outputs and self.storage_url is None and not self.is_sqlite:
            raise ConfigurationError(
                "GATEWAY_ARCHIVE_OUTPUTS is on, but there is no storage to copy to:"
                " set GATEWAY_STORAGE_URL to file:///folder or s3://bucket/prefix."
            )
        self.require_secret_key()

    def require_secret_key(self) -> None:
        """Raise ConfigurationError if replicas could have different keys."""
        if not self.is_sqlite and not self.secret_key:
            raise ConfigurationError(
                "GATEWAY_SECRET_KEY is not set, and replicas on Postgres must share one:"
                " set it to at least 32 random bytes, for example from `openssl rand -hex 32`."
            )


class _ExplicitSettings(Settings):
    # For keyword arguments only: in the environment a field with an alias goes by that alone.
    model_config = SettingsConfigDict(populate_by_name=True)

    @classmethod
    def settings_customise_sources(  # type: ignore[override] # the others are left out
        cls, *_: object, init_settings: PydanticBaseSettingsSource, **__: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def explicit_settings(**values: Any) -> Settings:
    """Make settings from `values` and defaults alone, whatever the environment says."""
    return _ExplicitSettings(**values)


def load_settings() -> Settings:
    """Read the environment and `.env`; raise ConfigurationError with a sentence for each fault."""
    try:
        return Settings()
    except ValidationError as exc:
        faults = "; ".join(_fault(error["loc"], error["msg"]) for error in exc.errors())
        raise ConfigurationError(f"{faults}.") from exc
    except (OSError, UnicodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise ConfigurationError(
            f"The file .env in this folder cannot be read ({reason}); correct it, give this user"
            " access to it, or run this elsewhere."
        ) from exc


def unknown_names() -> Mapping[str, str | None]:
    """List variables with our prefix that are no settings, each with the setting probably meant.

    What Kubernetes sets for each service is left out: a service may be called `gateway`.
    """
    prefix = "gateway_"
    set_there = {*EnvSettingsSource(Settings).env_vars, *DotEnvSettingsSource(Settings).env_vars}
    names = {name.removeprefix(prefix) for name in set_there if name.startswith(prefix)}
    fields = Settings.model_fields.keys()
    unknown = names - (fields - {"api_token"})  # whose variable has another prefix
    meant = {
        name: nearest(name, fields) for name in sorted(unknown) if not _is_from_kubernetes(name)
    }
    return {f"{prefix}{name}".upper(): near and _variable_of(near) for name, near in meant.items()}


def _is_from_kubernetes(name: str) -> bool:
    # https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    ends = r"service_host|service_port(_\w+)?|port(_\d+_(tcp|udp|sctp)(_\w+)?)?"
    return re.fullmatch(rf"(\w+_)?({ends})", name) is not None


def _variable_of(field: str) -> str:
    return str(Settings.model_fields[field].validation_alias or f"GATEWAY_{field.upper()}")


def _fault(loc: tuple[int | str, ...], message: str) -> str:
    reason = message.removeprefix("Value error, ")
    if not loc:
        return reason
    field = str(loc[0])
    name = field if field.isupper() else _variable_of(field)
    is_word = not reason[:2].isupper()  # and no abbreviation
    return f"{name}: {reason[:1].lower() if is_word else reason[:1]}{reason[1:]}"
