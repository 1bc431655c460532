"""Everything an installation can set (interfaces.md 6): one frozen model a section, with its
default and its limits.

These types know shapes only. What two keys mean together, and whether a file is there, is checked
in :mod:`config.rules`. What the desk does (pipelines, channels, templates, users) is not here but
in the database.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

Strings = Annotated[tuple[str, ...], Field(strict=False)]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Section(BaseModel):
    """A table of the file: no unknown keys, no silent conversion ("25" is not a number), no change
    after loading.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AccountSettings(Section):
    """Who we are to our correspondents. ``public_url`` is where people reach the web pages, without
    a slash at its end.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)] = "Support"
    time_zone: str = "UTC"
    public_url: str = "http://127.0.0.1:8025"
    acknowledge_unverified: Literal["generic", "full", "never"] = "generic"


class DataSettings(Section):
    """The folder of everything that is kept in files; the database and the blobs lie in it unless
    told otherwise.

    ``action_log_days`` is how long the action log of workflows goes back (behaviour.md 3.7); 0
    keeps all of it.
    """

    directory: Annotated[str, Field(min_length=1)] = "var"
    action_log_days: Annotated[int, Field(ge=0, le=36_500)] = 90


class DatabaseSettings(Section):
    """``sqlite:///path`` (four slashes for an absolute path) or ``postgresql://user@host/name``."""

    url: str = "sqlite:///var/ticketgate.db"


class BlobSettings(Section):
    """Where mails over 256 KiB lie: ``file://folder``, ``database:``, ``s3://``, ``gs://`` or
    ``az://bucket/prefix``.
    """

    url: str = "file://var/blobs"


class SmtpSettings(Section):
    """The SMTP listener. ``hostname`` empty means the name of the machine; ``proxy_from`` are
    networks whose PROXY header is believed.
    """

    listen: Strings = ("127.0.0.1:2525",)
    tls_certificate: str = ""
    tls_key: str = ""
    hostname: str = ""
    bare_newline: Literal["reject", "normalize"] = "reject"
    proxy_from: Strings = ()


class LmtpSettings(Section):
    """The LMTP listener: ``host:port`` or ``unix:/path``; off when empty."""

    listen: Strings = ()


class WebSettings(Section):
    """The web pages and the API; off when empty."""

    listen: str = "127.0.0.1:8025"


class HealthSettings(Section):
    """``/livez``, ``/readyz`` and ``/metrics``; off when empty."""

    listen: str = "127.0.0.1:8026"


class WorkerSettings(Section):
    """How many processes read mail; 0 means as many as there are cores, at most 4."""

    processes: Annotated[int, Field(ge=0, le=64)] = 0


class OutboundSettings(Section):
    """The smarthost. Without ``host`` mail waits in the outbox. It takes a password, or a token of
    the named ``[[oauth]]`` client.

    ``tls_ca`` is a PEM file of authorities that are trusted for it instead of those of the system.
    With the three ``dkim_`` keys mail is signed.
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
    """What signs the calls of webhooks, and the networks and hosts that they may go to although
    they are not public.
    """

    secret: SecretStr = SecretStr("")
    secret_file: str = ""
    allow: Strings = ()


class ImapSettings(Section):
    """A mailbox that is read for one of our channels. It signs in with a password or with the named
    ``[[oauth]]`` client.

    ``tls_ca`` is a PEM file of authorities that are trusted for this server instead of those of the
    system. ``sent_folder`` gets a copy of what users write from that channel.
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
    """A client that is registered with a provider of mailboxes. ``tenant`` is for ``microsoft``;
    its endpoints must be told for ``custom`` only.

    ``redirect_url`` is where the provider sends the browser after a person has agreed; empty means
    a free port of the loopback.
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
    """What one message, one session and one peer may take (reliability.md 1, item 7). ``exempt``
    networks have no limit per address.
    """

    message_bytes: Annotated[int, Field(ge=1024, le=1 << 31)] = 26_214_400
    connections: Count = 200
    connections_per_address: Count = 20
    connections_per_minute: Count = 60
    mails_per_session: Count = 100
    recipients: Count = 100
    errors: Count = 10
    exempt: Strings = ("127.0.0.0/8", "::1")


class AuthResultsSettings(Section):
    """The names (authserv-id) of the mail servers in front of us whose verdict is believed; none
    means that we are the first.
    """

    trusted: Strings = ()


class LogSettings(Section):
    """What is logged, in which shape, and how addresses look there."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "pretty"] = "auto"
    addresses: Literal["hashed", "full", "domain"] = "hashed"


class Settings(Section):
    """The whole configuration. ``Settings()`` is what holds with no file at all."""

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
    log: LogSettings = LogSettings()

    @model_validator(mode="before")
    @classmethod
    def _inside_data(cls, given: Any) -> Any:
        """Puts database and blobs into ``data.directory`` where they are not set."""
        if not isinstance(given, dict) or not isinstance(given.get("data"), dict):
            return given
        directory = given["data"].get("directory")
        if not isinstance(directory, str) or not directory:
            return given
        directory = directory.rstrip("/") or "/"
        filled = dict(given)
        for section, url in (
            ("database", f"sqlite:///{directory}/ticketgate.db"),
            ("blobs", f"file://{directory}/blobs"),
        ):
            table = filled.get(section, {})
            if isinstance(table, dict) and "url" not in table:
                filled[section] = {**table, "url": url}
        return filled
