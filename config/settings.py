"""Everything an installation can set (interfaces.md 6): one frozen model per section.

These types hold defaults, shapes and limits of single values. :mod:`config.checks` checks whether
values fit together and files exist. Pipelines, channels, templates and users live in the
database.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

Strings = Annotated[tuple[str, ...], Field(strict=False)]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Section(BaseModel):
    """A table of the configuration file, read-only once loaded.

    Unknown keys are mistakes, and so are values of another type: "25" is not a number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AccountSettings(Section):
    """The name that correspondents see, the time zone, and the address of the web pages.

    ``public_url`` is where people reach the web pages, without a trailing slash.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)] = "Support"
    time_zone: str = "UTC"
    public_url: str = "http://127.0.0.1:8025"
    acknowledge_unverified: Literal["generic", "full", "never"] = "generic"


class DataSettings(Section):
    """The folder for all files; database and blobs are in it unless they have URLs of their own.

    ``action_log_days`` is how many days the workflow action log is kept (behaviour.md 3.7); 0 keeps
    it for good.
    """

    directory: Annotated[str, Field(min_length=1)] = "var"
    action_log_days: Annotated[int, Field(ge=0, le=36_500)] = 90


class DatabaseSettings(Section):
    """The database: ``sqlite:///path`` or ``postgresql://user@host/name``.

    An absolute path has four slashes. An empty URL means a file in ``data.directory``.
    """

    url: str = "sqlite:///var/ticketgate.db"


class BlobSettings(Section):
    """The store of large mail: ``file://``, ``database:``, ``s3://``, ``gs://``, ``az://``.

    An empty URL means a folder in ``data.directory``.
    """

    url: str = "file://var/blobs"


class SmtpSettings(Section):
    """The SMTP listener.

    An empty ``hostname`` means the machine's name. ``proxy_from`` lists the networks whose PROXY
    header is trusted.
    """

    listen: Strings = ("127.0.0.1:2525",)
    tls_certificate: str = ""
    tls_key: str = ""
    hostname: str = ""
    bare_newline: Literal["reject", "normalize"] = "reject"
    proxy_from: Strings = ()


class LmtpSettings(Section):
    """Where LMTP listens: ``host:port`` or ``unix:/path``; an empty list switches LMTP off."""

    listen: Strings = ()


class WebSettings(Section):
    """Where the web pages and the API listen; an empty address switches them off."""

    listen: str = "127.0.0.1:8025"


class HealthSettings(Section):
    """Where ``/livez``, ``/readyz`` and ``/metrics`` listen; an empty address switches them off."""

    listen: str = "127.0.0.1:8026"


class WorkerSettings(Section):
    """The number of processes that read mail; 0 means one per core, but at most 4."""

    processes: Annotated[int, Field(ge=0, le=64)] = 0


class OutboundSettings(Section):
    """The smarthost, and how we sign in there: by password, or with a token of an OAuth client.

    Without ``host``, mail waits in the outbox. ``tls_ca`` is a PEM file of authorities to trust
    instead of the system's. Mail is signed if all three ``dkim_`` keys are set.
    """

    host: str = ""
    port: Port = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    tls_ca: str = ""
    username: str = ""
    password: SecretStr = SecretStr("")
    password_file: str = ""
    oauth: str = ""
    from_address: str = ""
    dkim_domain: str = ""
    dkim_selector: str = ""
    dkim_key_file: str = ""


class WebhookSettings(Section):
    """The secret that signs webhook calls, and the addresses allowed besides public ones."""

    secret: SecretStr = SecretStr("")
    secret_file: str = ""
    allow: Strings = ()


class ImapSettings(Section):
    """A mailbox that is read for one channel; it needs a password or an ``[[oauth]]`` client.

    ``tls_ca`` is a PEM file of authorities to trust instead of the system's. ``sent_folder``
    receives a copy of mail that users write from that channel.
    """

    name: Annotated[str, Field(min_length=1)]
    host: Annotated[str, Field(min_length=1)]
    port: Port = 993
    tls: bool = True
    tls_ca: str = ""
    username: Annotated[str, Field(min_length=1)]
    password: SecretStr = SecretStr("")
    password_file: str = ""
    oauth: str = ""
    folder: Annotated[str, Field(min_length=1)] = "INBOX"
    channel: Annotated[str, Field(min_length=1)]
    after: Literal["keep", "seen", "move", "delete"] = "keep"
    move_to: str = ""
    sent_folder: str = ""


class OauthSettings(Section):
    """A client registered with an OAuth provider.

    ``tenant`` is for ``microsoft``; endpoints are required for ``custom`` only. ``redirect_url`` is
    where the provider sends the browser after consent; empty means a free port of the loopback. To
    add a provider: name it here and describe it in ``gateway/oauth/providers.py``.
    """

    name: Annotated[str, Field(min_length=1)]
    provider: Literal["microsoft", "google", "custom"]
    client_id: Annotated[str, Field(min_length=1)]
    client_secret: SecretStr = SecretStr("")
    client_secret_file: str = ""
    grant: Literal["client_credentials", "authorization_code", "device_code"]
    tenant: str = ""
    authorize_url: str = ""
    device_url: str = ""
    token_url: str = ""
    redirect_url: str = ""
    scope: str = ""


class LimitSettings(Section):
    """Limits per message, session and peer (reliability.md 7).

    Networks in ``exempt`` have no limit per address. To add a limit, see
    ``gateway/ingress/connection_limits.py``.
    """

    message_bytes: Annotated[int, Field(ge=1024, le=1 << 31)] = 26_214_400
    connections: Count = 200
    connections_per_address: Count = 20
    connections_per_minute: Count = 60
    mails_per_session: Count = 100
    recipients: Count = 100
    errors: Count = 10
    commands_without_mail: Count = 20
    exempt: Strings = ("127.0.0.0/8", "::1")


class AuthResultsSettings(Section):
    """The mail servers in front of us whose verdicts we trust.

    ``trusted`` are their names (authserv-id), ``peers`` the networks they send mail from by SMTP.
    """

    trusted: Strings = ()
    peers: Strings = ("127.0.0.0/8", "::1")


class ThreadSettings(Section):
    """Whose mail may join two conversations: people of both, or anyone (behaviour.md 5)."""

    join: Literal["vouched", "anyone"] = "vouched"


class LogSettings(Section):
    """Level and format of the log, and how addresses appear in it."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "pretty"] = "auto"
    addresses: Literal["hashed", "full", "domain"] = "hashed"


class Settings(Section):
    """The whole configuration; ``Settings()`` holds the defaults."""

    account: AccountSettings = AccountSettings()
    data: DataSettings = DataSettings()
    database: DatabaseSettings = DatabaseSettings()
    blobs: BlobSettings = BlobSettings()
    smtp: SmtpSettings = SmtpSettings()
    lmtp: LmtpSettings = LmtpSettings()
    web: WebSettings = WebSettings()
    health: HealthSettings = HealthSettings()
    workers: WorkerSettings = WorkerSettings()
    outbound: OutboundSettings = OutboundSettings()
    webhooks: WebhookSettings = WebhookSettings()
    imap: Annotated[tuple[ImapSettings, ...], Field(strict=False)] = ()
    oauth: Annotated[tuple[OauthSettings, ...], Field(strict=False)] = ()
    limits: LimitSettings = LimitSettings()
    auth_results: AuthResultsSettings = AuthResultsSettings()
    threads: ThreadSettings = ThreadSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="before")
    @classmethod
    def _inside_data(cls, values: Any) -> Any:
        """Put database and blobs into ``data.directory`` unless their URLs are set."""
        if not isinstance(values, dict):
            return values
        data = values.get("data", {})
        directory = data.get("directory", "var") if isinstance(data, dict) else None
        if not isinstance(directory, str) or not directory:
            return values
        directory = directory.rstrip("/") or "/"
        filled = dict(values)
        for section, url in (
            ("database", f"sqlite:///{directory}/ticketgate.db"),
            ("blobs", f"file://{directory}/blobs"),
        ):
            table = filled.get(section, {})
            if isinstance(table, dict) and table.get("url", "") == "":
                filled[section] = {**table, "url": url}
        return filled
