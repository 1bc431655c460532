"""What no single value can be wrong about: keys that belong together, addresses, URLs, files that
have to be there.

Each rule is a generator of ``(key, reason, suggestion)`` over settings whose single values are
valid.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from itertools import chain
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from config.keys import read_key
from config.listen import parse_listen
from config.settings import ImapSettings, OauthSettings, Settings

Broken = tuple[str, str, str]
_DNS_NAME: Final = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_BLOBS: Final = {"file", "database", "s3", "gs", "az"}


def broken_rules(settings: Settings) -> Iterator[Broken]:
    """Every rule that the settings break, in the order of the file."""
    rules = (
        _account,
        _data,
        _database,
        _blobs,
        _listeners,
        _tls,
        _networks,
        _outbound,
        _dkim,
        _webhooks,
        _names,
        _imap,
        _folders,
        _oauth,
        _limits,
    )
    return chain.from_iterable(rule(settings) for rule in rules)


def _account(settings: Settings) -> Iterator[Broken]:
    zone = settings.account.time_zone
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, LookupError):
        yield (
            "account.time_zone",
            f"{zone!r} is no time zone",
            'a name of the IANA list, as in "Europe/Vienna", or "UTC"',
        )
    url = urlsplit(settings.account.public_url)
    if url.scheme not in {"http", "https"} or not url.netloc:
        yield "account.public_url", "is no web address", 'as in "https://desk.example.org"'
    elif settings.account.public_url.endswith("/"):
        yield (
            "account.public_url",
            "ends with a slash",
            f'write "{settings.account.public_url.rstrip("/")}"',
        )


def _data(settings: Settings) -> Iterator[Broken]:
    folder = Path(settings.data.directory)
    if folder.exists() and not folder.is_dir():
        yield "data.directory", "is a file", "name a folder; it is created when it is not there"


def _database(settings: Settings) -> Iterator[Broken]:
    url = settings.database.url
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        if not url.startswith("sqlite:///") or len(url) == len("sqlite:///") or ":memory:" in url:
            yield (
                "database.url",
                "names no database file",
                "sqlite:///folder/file.db, with a fourth slash for an absolute path",
            )
    elif scheme == "postgresql":
        if not _path_of(url):
            yield "database.url", "names no host or no database", "postgresql://user@host/name"
    else:
        near = (
            "postgresql"
            if scheme.startswith("postgres")
            else "sqlite"
            if scheme.startswith("sqlite")
            else ""
        )
        yield (
            "database.url",
            f"{scheme!r} is no database we know",
            f"did you mean {near}?" if near else "sqlite:///file or postgresql://user@host/name",
        )


def _path_of(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname and parts.path.strip("/") and (parts.port is None or parts.port))
    except ValueError:
        return False


def _blobs(settings: Settings) -> Iterator[Broken]:
    url = settings.blobs.url
    scheme, _, rest = url.partition(":")
    if scheme not in _BLOBS:
        yield (
            "blobs.url",
            f"{scheme!r} is no blob store we know",
            "file://folder, database:, s3://bucket, gs://bucket or az://container",
        )
    elif scheme != "database" and (not rest.startswith("//") or len(rest) == len("//")):
        yield (
            "blobs.url",
            "names no place",
            f"{scheme}://{'folder' if scheme == 'file' else 'bucket/prefix'}",
        )


def _listeners(settings: Settings) -> Iterator[Broken]:
    listeners = [
        (f"smtp.listen[{number}]", text) for number, text in enumerate(settings.smtp.listen)
    ]
    listeners += [
        (f"lmtp.listen[{number}]", text) for number, text in enumerate(settings.lmtp.listen)
    ]
    listeners += [
        (key, text)
        for key, text in (
            ("web.listen", settings.web.listen),
            ("health.listen", settings.health.listen),
        )
        if text
    ]
    taken: dict[str, str] = {}
    for key, text in listeners:
        try:
            place = parse_listen(text)
        except ValueError as error:
            yield key, f"{text!r}: {error}", ""
            continue
        if place.path and key.startswith("smtp"):
            yield key, "SMTP listens on TCP only", "use [lmtp] listen for a unix socket"
        if str(place) in taken and place.port + bool(place.path):
            yield (
                key,
                f"{place} is used by {taken[str(place)]} already",
                "give each listener an address of its own",
            )
        taken.setdefault(str(place), key)


def _tls(settings: Settings) -> Iterator[Broken]:
    certificate, key = settings.smtp.tls_certificate, settings.smtp.tls_key
    if bool(certificate) != bool(key):
        missing = "tls_key" if certificate else "tls_certificate"
        yield f"smtp.{missing}", "is missing", "certificate and key are set together, or neither"
        return
    if not certificate:
        return
    unreadable = [
        (name, path)
        for name, path in (("tls_certificate", certificate), ("tls_key", key))
        if not _readable(path)
    ]
    for name, path in unreadable:
        yield f"smtp.{name}", f"{path!r} cannot be read", "check the path and its permissions"
    if not unreadable:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        except (ssl.SSLError, OSError):
            yield (
                "smtp.tls_certificate",
                "certificate and key do not belong together, or are not PEM",
                "look at both files with openssl",
            )


def _readable(path: str) -> bool:
    try:
        with Path(path).open("rb"):
            return True
    except OSError:
        return False


def _networks(settings: Settings) -> Iterator[Broken]:
    for section, texts in (
        ("smtp.proxy_from", settings.smtp.proxy_from),
        ("limits.exempt", settings.limits.exempt),
    ):
        for number, text in enumerate(texts):
            if not _is_network(text):
                yield (
                    f"{section}[{number}]",
                    f"{text!r} is no network",
                    'as in "192.0.2.0/24" or "::1", without host bits',
                )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _outbound(settings: Settings) -> Iterator[Broken]:
    out = settings.outbound
    secret = bool(out.password.get_secret_value())
    if not out.host and (out.username or secret or out.oauth):
        yield (
            "outbound.host",
            "is missing",
            "name the smarthost that the user name and the password are for",
        )
    yield from _outbound_login(settings)
    if out.tls == "none" and (secret or out.oauth) and not _is_loopback(out.host):
        yield (
            "outbound.tls",
            "a password would cross the network in the clear",
            'use "starttls" or "tls"',
        )
    if out.tls_ca and not _readable(out.tls_ca):
        yield (
            "outbound.tls_ca",
            f"{out.tls_ca!r} cannot be read",
            "check the path and its permissions",
        )
    if out.tls_ca and out.tls == "none":
        yield "outbound.tls_ca", 'has no meaning with tls = "none"', "leave it out"
    if out.from_address and not _is_address(out.from_address):
        yield (
            "outbound.from_address",
            f"{out.from_address!r} is no mail address",
            'as in "support@example.org"',
        )


def _outbound_login(settings: Settings) -> Iterator[Broken]:
    out = settings.outbound
    clients = [client.name for client in settings.oauth]
    secret = bool(out.password.get_secret_value())
    if secret and out.oauth:
        yield "outbound.oauth", "password and oauth exclude one another", "leave one of them out"
    if out.username and not secret and not out.oauth:
        yield (
            "outbound.password_file",
            "is missing",
            "a user name needs a password, in a file that only we can read",
        )
    if (secret or out.oauth) and not out.username:
        yield (
            "outbound.username",
            "is missing",
            "a password needs a user name" if secret else "a token needs a user name",
        )
    if out.oauth and out.oauth not in clients:
        yield (
            "outbound.oauth",
            f"there is no [[oauth]] table named {out.oauth!r}",
            f"known here: {', '.join(clients) or 'none'}",
        )


def _dkim(settings: Settings) -> Iterator[Broken]:
    out = settings.outbound
    given = {name: getattr(out, name) for name in ("dkim_domain", "dkim_selector", "dkim_key_file")}
    missing = [name for name, value in given.items() if not value]
    if len(missing) < len(given):
        for name in missing:
            yield (
                f"outbound.{name}",
                "is missing",
                "domain, selector and key are set together, or none of them",
            )
    for name in ("dkim_domain", "dkim_selector"):
        if given[name] and not _DNS_NAME.fullmatch(given[name]):
            yield (
                f"outbound.{name}",
                f"{given[name]!r} is no name in the DNS",
                "letters, digits and hyphens, with dots between them",
            )
    if path := out.dkim_key_file:
        try:
            read_key(Path(path).read_text())
        except OSError:
            yield (
                "outbound.dkim_key_file",
                f"{path!r} cannot be read",
                "check the path and its permissions",
            )
        except UnicodeDecodeError:
            yield (
                "outbound.dkim_key_file",
                f"{path!r} is not text",
                "a private key in PEM form, RSA or Ed25519",
            )
        except ValueError as error:
            yield (
                "outbound.dkim_key_file",
                f"{path!r} {error}",
                "a private key in PEM form, RSA or Ed25519",
            )


def _webhooks(settings: Settings) -> Iterator[Broken]:
    for number, text in enumerate(settings.webhooks.allow):
        if not _DNS_NAME.fullmatch(text) and not _is_network(text):
            yield (
                f"webhooks.allow[{number}]",
                f"{text!r} is neither a network nor a host",
                'as in "10.0.0.0/8" or "hooks.example.org"',
            )


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _is_address(text: str) -> bool:
    local, _, domain = text.rpartition("@")
    return bool(local and domain) and not any(
        character.isspace() or character in "<>,;\"'" for character in text
    )


def _names(settings: Settings) -> Iterator[Broken]:
    for section, tables in (("imap", settings.imap), ("oauth", settings.oauth)):
        names = [table.name for table in tables]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield (
                f"{section}.{name}.name",
                f"{names.count(name)} [[{section}]] tables have this name",
                "names are unique",
            )


def _imap(settings: Settings) -> Iterator[Broken]:
    clients = [client.name for client in settings.oauth]
    for box in settings.imap:
        key = f"imap.{box.name}"
        secret = bool(box.password.get_secret_value())
        if secret and box.oauth:
            yield f"{key}.oauth", "password and oauth exclude one another", "leave one of them out"
        elif not secret and not box.oauth:
            yield f"{key}.password_file", "is missing", "a mailbox needs password_file or oauth"
        if box.oauth and box.oauth not in clients:
            yield (
                f"{key}.oauth",
                f"there is no [[oauth]] table named {box.oauth!r}",
                f"known here: {', '.join(clients) or 'none'}",
            )
        yield from _imap_tls(key, box)
        if box.after == "move" and not box.move_to:
            yield f"{key}.move_to", "is missing", 'after = "move" needs the folder to move to'
        if box.after != "move" and box.move_to:
            yield (
                f"{key}.move_to",
                f'has no meaning with after = "{box.after}"',
                'set after = "move", or leave it out',
            )
        if box.move_to and folder_of(box.move_to) == folder_of(box.folder):
            yield f"{key}.move_to", "is the folder that is read", "name another folder"
        if box.sent_folder and folder_of(box.sent_folder) in {
            folder_of(box.folder),
            folder_of(box.move_to),
        }:
            yield f"{key}.sent_folder", "is a folder for mail that comes in", "name another folder"
        if not _is_address(box.channel):
            yield (
                f"{key}.channel",
                f"{box.channel!r} is no mail address",
                "the address of the channel that the mailbox belongs to",
            )


def _imap_tls(key: str, box: ImapSettings) -> Iterator[Broken]:
    if not box.tls and not _is_loopback(box.host):
        yield f"{key}.tls", "without TLS only the loopback is allowed", "set tls = true"
    if box.tls_ca and not _readable(box.tls_ca):
        yield (
            f"{key}.tls_ca",
            f"{box.tls_ca!r} cannot be read",
            "check the path and its permissions",
        )
    if box.tls_ca and not box.tls:
        yield f"{key}.tls_ca", "has no meaning with tls = false", "leave it out"


def _folders(settings: Settings) -> Iterator[Broken]:
    """No two tables may read one folder, and none may read what another moves there: each mail
    would come twice.
    """
    read: dict[tuple[str, str, str], str] = {}
    for box in settings.imap:
        first = read.setdefault(_place(box, box.folder), box.name)
        if first != box.name:
            yield (
                f"imap.{box.name}.folder",
                f"is read by {first!r} already",
                "each folder is read once",
            )
    for box in settings.imap:
        other = read.get(_place(box, box.move_to))
        if box.move_to and other is not None and folder_of(box.move_to) != folder_of(box.folder):
            yield (
                f"imap.{box.name}.move_to",
                f"is the folder that {other!r} reads",
                "name another folder",
            )


def _place(box: ImapSettings, folder: str) -> tuple[str, str, str]:
    return box.host.lower(), box.username.casefold(), folder_of(folder)


def folder_of(name: str) -> str:
    """A folder's name as it is compared: case matters in all of them but one (RFC 3501 section
    5.1).
    """
    return "INBOX" if name.upper() == "INBOX" else name


def _oauth(settings: Settings) -> Iterator[Broken]:
    for client in settings.oauth:
        key = f"oauth.{client.name}"
        yield from _endpoints(key, client)
        if client.redirect_url and not _is_own(client.redirect_url):
            yield (
                f"{key}.redirect_url",
                "is no address of this machine with a port",
                'as in "http://127.0.0.1:8400"',
            )
        own = client.grant == "client_credentials"
        if (own or client.provider == "google") and not client.client_secret.get_secret_value():
            reason = f'grant = "{client.grant}"' if own else 'provider = "google"'
            yield f"{key}.client_secret_file", "is missing", f"{reason} needs a secret"
        if own and client.provider == "microsoft" and not client.tenant:
            yield (
                f"{key}.tenant",
                "is missing",
                'grant = "client_credentials" needs the directory, as in "example.org"',
            )


def _endpoints(key: str, client: OauthSettings) -> Iterator[Broken]:
    needed = {
        "token_url": True,
        "authorize_url": client.grant == "authorization_code",
        "device_url": client.grant == "device_code",
    }
    for name, is_needed in needed.items():
        url = getattr(client, name)
        if url and not _is_secure(url):
            yield (
                f"{key}.{name}",
                "is neither https nor on this machine",
                "secrets are sent there: use https",
            )
        elif not url and is_needed and client.provider == "custom":
            reason = f'grant = "{client.grant}"' if name != "token_url" else 'provider = "custom"'
            yield f"{key}.{name}", "is missing", f"{reason} needs the address of this endpoint"


def _is_secure(url: str) -> bool:
    """Whether secrets may be sent there: by https, or without leaving this machine."""
    scheme, host, _ = _parts(url)
    return bool(host) and (scheme == "https" or (scheme == "http" and _is_loopback(host)))


def _is_own(url: str) -> bool:
    scheme, host, port = _parts(url)
    return scheme == "http" and _is_loopback(host) and bool(port)


def _parts(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a web address; empty where it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", "", None
    return parts.scheme, parts.hostname or "", port


def _limits(settings: Settings) -> Iterator[Broken]:
    limits = settings.limits
    if limits.connections_per_address > limits.connections:
        yield (
            "limits.connections_per_address",
            "is more than limits.connections",
            f"at most {limits.connections}",
        )
