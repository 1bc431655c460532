"""Rules that the types of single values cannot express: keys that belong together, URLs, files.

The rules run on settings whose single values are valid; each yields ``(key, reason, suggestion)``.
To add one: write a generator of that form and list it in :func:`violations`.
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
from config.listen import ListenError, parse_listen
from config.settings import ImapSettings, OauthSettings, Settings

Violation = tuple[str, str, str]  # key, reason, suggestion
_DNS_NAME: Final = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_SERVER_NAME: Final = re.compile(r"[^\s\"();]+")
_SERVER_NAME_HINT: Final = "copy the first word of its Authentication-Results"
_BLOB_SCHEMES: Final = {"file", "database", "s3", "gs", "az"}
_CHECK_PATH: Final = "check the path and its permissions"
_NETWORK: Final = 'write it as "192.0.2.0/24" or "::1", without host bits'
_PEM_KEY: Final = "use a private key in PEM form, RSA or Ed25519"


def violations(settings: Settings) -> Iterator[Violation]:
    """Yield a problem for each rule that the settings break, in the order of the file."""
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
        _auth_results,
    )
    return chain.from_iterable(rule(settings) for rule in rules)


def _account(settings: Settings) -> Iterator[Violation]:
    zone = settings.account.time_zone
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, LookupError):
        yield (
            "account.time_zone",
            f"{zone!r} is not a time zone",
            'use an IANA name, such as "Europe/Vienna" or "UTC"',
        )
    url = urlsplit(settings.account.public_url)
    if url.scheme not in {"http", "https"} or not url.netloc:
        yield "account.public_url", "is not a web address", 'write it as "https://desk.example.org"'
    elif settings.account.public_url.endswith("/"):
        yield (
            "account.public_url",
            "ends with a slash",
            f'write "{settings.account.public_url.rstrip("/")}"',
        )


def _data(settings: Settings) -> Iterator[Violation]:
    folder = Path(settings.data.directory)
    if folder.exists() and not folder.is_dir():
        yield "data.directory", "is a file", "name a folder; it is created if it does not exist"


def _database(settings: Settings) -> Iterator[Violation]:
    url = settings.database.url
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        if not url.startswith("sqlite:///") or len(url) == len("sqlite:///") or ":memory:" in url:
            yield (
                "database.url",
                "does not name a database file",
                "use sqlite:///folder/file.db, with a fourth slash for an absolute path",
            )
    elif scheme == "postgresql":
        if not _path_of(url):
            yield "database.url", "needs a host and a database", "use postgresql://user@host/name"
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
            f"unknown database {scheme!r}",
            f"did you mean {near}?"
            if near
            else "use sqlite:///file or postgresql://user@host/name",
        )


def _path_of(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname and parts.path.strip("/") and (parts.port is None or parts.port))
    except ValueError:
        return False


def _blobs(settings: Settings) -> Iterator[Violation]:
    url = settings.blobs.url
    scheme, _, rest = url.partition(":")
    if scheme not in _BLOB_SCHEMES:
        yield (
            "blobs.url",
            f"unknown blob store {scheme!r}",
            "use file://folder, database:, s3://bucket, gs://bucket or az://container",
        )
    elif scheme != "database" and (not rest.startswith("//") or len(rest) == len("//")):
        yield (
            "blobs.url",
            "does not name a place",
            f"use {scheme}://{'folder' if scheme == 'file' else 'bucket/prefix'}",
        )


def _listeners(settings: Settings) -> Iterator[Violation]:
    taken: dict[str, str] = {}
    for key, text in _listen_texts(settings):
        try:
            place = parse_listen(text)
        except ListenError as error:
            yield key, f"{text!r} {error}", error.suggestion
            continue
        if place.path and key.startswith("smtp"):
            yield key, "SMTP listens on TCP only", "use [lmtp] listen for a Unix socket"
        if str(place) in taken and place.port + bool(place.path):
            yield (
                key,
                f"{place} is already used by {taken[str(place)]}",
                "give each listener its own address",
            )
        taken.setdefault(str(place), key)


def _listen_texts(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield (key, address as written) for each listener that is switched on."""
    for section, texts in (("smtp", settings.smtp.listen), ("lmtp", settings.lmtp.listen)):
        yield from ((f"{section}.listen[{number}]", text) for number, text in enumerate(texts))
    for section, text in (("web", settings.web.listen), ("health", settings.health.listen)):
        if text:
            yield f"{section}.listen", text


def _tls(settings: Settings) -> Iterator[Violation]:
    certificate, key = settings.smtp.tls_certificate, settings.smtp.tls_key
    if bool(certificate) != bool(key):
        missing = "tls_key" if certificate else "tls_certificate"
        yield f"smtp.{missing}", "is missing", "set certificate and key together, or neither"
        return
    if not certificate:
        return
    unreadable = [
        (name, path)
        for name, path in (("tls_certificate", certificate), ("tls_key", key))
        if not _readable(path)
    ]
    for name, path in unreadable:
        yield f"smtp.{name}", f"{path!r} cannot be read", _CHECK_PATH
    if not unreadable:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        except (ssl.SSLError, OSError):
            yield (
                "smtp.tls_certificate",
                "certificate and key do not match, or are not PEM files",
                "check both files with openssl",
            )


def _readable(path: str) -> bool:
    try:
        with Path(path).open("rb"):
            return True
    except OSError:
        return False


def _networks(settings: Settings) -> Iterator[Violation]:
    listed = {
        "smtp.proxy_from": settings.smtp.proxy_from,
        "limits.exempt": settings.limits.exempt,
        "auth_results.peers": settings.auth_results.peers,
    }
    for key, texts in listed.items():
        for number, text in enumerate(texts):
            if not _is_network(text):
                yield f"{key}[{number}]", f"{text!r} is not a network", _NETWORK


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _outbound(settings: Settings) -> Iterator[Violation]:
    out = settings.outbound
    secret = bool(out.password.get_secret_value())
    if not out.host and (out.username or secret or out.oauth):
        yield (
            "outbound.host",
            "is missing",
            "name the smarthost that the user name and the password belong to",
        )
    yield from _outbound_login(settings)
    if out.tls == "none" and (secret or out.oauth) and not _is_loopback(out.host):
        yield ("outbound.tls", "the password would be sent unencrypted", 'use "starttls" or "tls"')
    if out.tls_ca and not _readable(out.tls_ca):
        yield ("outbound.tls_ca", f"{out.tls_ca!r} cannot be read", _CHECK_PATH)
    if out.tls_ca and out.tls == "none":
        yield "outbound.tls_ca", 'has no effect with tls = "none"', "remove it"
    if out.from_address and not _is_address(out.from_address):
        yield (
            "outbound.from_address",
            f"{out.from_address!r} is not a mail address",
            'write it as "support@example.org"',
        )


def _outbound_login(settings: Settings) -> Iterator[Violation]:
    out = settings.outbound
    clients = [client.name for client in settings.oauth]
    secret = bool(out.password.get_secret_value())
    if secret and out.oauth:
        yield "outbound.oauth", "password and oauth cannot both be set", "remove one of them"
    if out.username and not secret and not out.oauth:
        yield (
            "outbound.password_file",
            "is missing",
            "a user name needs a password; put it into a file that only the daemon can read",
        )
    if (secret or out.oauth) and not out.username:
        yield (
            "outbound.username",
            "is missing",
            f"set the user name that the {'password' if secret else 'token'} belongs to",
        )
    if out.oauth and out.oauth not in clients:
        yield (
            "outbound.oauth",
            f"there is no [[oauth]] table named {out.oauth!r}",
            f"known names: {', '.join(clients) or 'none'}",
        )


def _dkim(settings: Settings) -> Iterator[Violation]:
    out = settings.outbound
    names = ("dkim_domain", "dkim_selector", "dkim_key_file")
    values = {name: getattr(out, name) for name in names}
    missing = [name for name, value in values.items() if not value]
    if len(missing) < len(names):
        for name in missing:
            yield (
                f"outbound.{name}",
                "is missing",
                "set domain, selector and key together, or none of them",
            )
    for name in ("dkim_domain", "dkim_selector"):
        if values[name] and not _DNS_NAME.fullmatch(values[name]):
            yield (
                f"outbound.{name}",
                f"{values[name]!r} is not a DNS name",
                "use letters, digits and hyphens, separated by dots",
            )
    if out.dkim_key_file:
        yield from _key_file("outbound.dkim_key_file", out.dkim_key_file)


def _key_file(key: str, path: str) -> Iterator[Violation]:
    try:
        read_key(Path(path).read_text())
    except OSError:
        yield key, f"{path!r} cannot be read", _CHECK_PATH
    except ValueError as error:
        reason = "is not text" if isinstance(error, UnicodeDecodeError) else str(error)
        yield key, f"{path!r} {reason}", _PEM_KEY


def _webhooks(settings: Settings) -> Iterator[Violation]:
    for number, text in enumerate(settings.webhooks.allow):
        if not _DNS_NAME.fullmatch(text) and not _is_network(text):
            yield (
                f"webhooks.allow[{number}]",
                f"{text!r} is neither a network nor a host",
                'write it as "10.0.0.0/8" or "hooks.example.org"',
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


def _names(settings: Settings) -> Iterator[Violation]:
    for section, tables in (("imap", settings.imap), ("oauth", settings.oauth)):
        names = [table.name for table in tables]
        for name in sorted({name for name in names if names.count(name) > 1}):
            reason = f"is used by {names.count(name)} [[{section}]] tables"
            yield f"{section}.{name}.name", reason, "give each table its own name"


def _imap(settings: Settings) -> Iterator[Violation]:
    clients = [client.name for client in settings.oauth]
    for box in settings.imap:
        key = f"imap.{box.name}"
        secret = bool(box.password.get_secret_value())
        if secret and box.oauth:
            yield f"{key}.oauth", "password and oauth cannot both be set", "remove one of them"
        elif not secret and not box.oauth:
            yield f"{key}.password_file", "is missing", "set password_file or oauth"
        if box.oauth and box.oauth not in clients:
            yield (
                f"{key}.oauth",
                f"there is no [[oauth]] table named {box.oauth!r}",
                f"known names: {', '.join(clients) or 'none'}",
            )
        yield from _imap_tls(key, box)
        yield from _imap_folders(key, box)
        if not _is_address(box.channel):
            yield (
                f"{key}.channel",
                f"{box.channel!r} is not a mail address",
                "set the address of the channel that the mailbox belongs to",
            )


def _imap_folders(key: str, box: ImapSettings) -> Iterator[Violation]:
    if box.after == "move" and not box.move_to:
        yield f"{key}.move_to", "is missing", 'set the folder that after = "move" moves mail to'
    if box.after != "move" and box.move_to:
        yield (
            f"{key}.move_to",
            f'has no effect with after = "{box.after}"',
            'set after = "move", or remove it',
        )
    if box.move_to and folder_of(box.move_to) == folder_of(box.folder):
        yield f"{key}.move_to", "is the folder that is read", "choose another folder"
    if box.sent_folder and folder_of(box.sent_folder) in {
        folder_of(box.folder),
        folder_of(box.move_to),
    }:
        yield f"{key}.sent_folder", "is a folder for incoming mail", "choose another folder"


def _imap_tls(key: str, box: ImapSettings) -> Iterator[Violation]:
    if not box.tls and not _is_loopback(box.host):
        yield f"{key}.tls", "only a host on the loopback may be used without TLS", "set tls = true"
    if box.tls_ca and not _readable(box.tls_ca):
        yield (f"{key}.tls_ca", f"{box.tls_ca!r} cannot be read", _CHECK_PATH)
    if box.tls_ca and not box.tls:
        yield f"{key}.tls_ca", "has no effect with tls = false", "remove it"


def _folders(settings: Settings) -> Iterator[Violation]:
    """Report each folder that two tables read, or that one table reads and another fills."""
    read: dict[tuple[str, str, str], str] = {}
    for box in settings.imap:
        first = read.setdefault(_mailbox_folder(box, box.folder), box.name)
        if first != box.name:
            yield (
                f"imap.{box.name}.folder",
                f"is already read by {first!r}",
                "let only one table read a folder",
            )
    for box in settings.imap:
        other = read.get(_mailbox_folder(box, box.move_to))
        if box.move_to and other is not None and folder_of(box.move_to) != folder_of(box.folder):
            yield (
                f"imap.{box.name}.move_to",
                f"is the folder that {other!r} reads",
                "choose another folder",
            )


def _mailbox_folder(box: ImapSettings, folder: str) -> tuple[str, str, str]:
    return box.host.lower(), box.username.casefold(), folder_of(folder)


def folder_of(name: str) -> str:
    """Return the name of a folder for comparison: only INBOX ignores case (RFC 3501, 5.1)."""
    return "INBOX" if name.upper() == "INBOX" else name


def _oauth(settings: Settings) -> Iterator[Violation]:
    for client in settings.oauth:
        key = f"oauth.{client.name}"
        yield from _endpoints(key, client)
        if client.redirect_url and not _is_own(client.redirect_url):
            yield (
                f"{key}.redirect_url",
                "is not an address of this machine with a port",
                'write it as "http://127.0.0.1:8400"',
            )
        own = client.grant == "client_credentials"
        if (own or client.provider == "google") and not client.client_secret.get_secret_value():
            reason = f'grant = "{client.grant}"' if own else 'provider = "google"'
            yield (
                f"{key}.client_secret_file",
                "is missing",
                f"set it, since {reason} needs a secret",
            )
        if own and client.provider == "microsoft" and not client.tenant:
            yield (
                f"{key}.tenant",
                "is missing",
                'set the directory, such as "example.org"; grant = "client_credentials" needs it',
            )


def _endpoints(key: str, client: OauthSettings) -> Iterator[Violation]:
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
                "use https, since secrets are sent there",
            )
        elif not url and is_needed and client.provider == "custom":
            reason = f'grant = "{client.grant}"' if name != "token_url" else 'provider = "custom"'
            yield f"{key}.{name}", "is missing", f"set it, since {reason} needs this endpoint"


def _is_secure(url: str) -> bool:
    """Tell whether secrets may be sent to a URL: with https, or to this machine."""
    scheme, host, _ = _parts(url)
    return bool(host) and (scheme == "https" or (scheme == "http" and _is_loopback(host)))


def _is_own(url: str) -> bool:
    scheme, host, port = _parts(url)
    return scheme == "http" and _is_loopback(host) and bool(port)


def _parts(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL; empty values if it is not a URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", "", None
    return parts.scheme, parts.hostname or "", port


def _limits(settings: Settings) -> Iterator[Violation]:
    limits = settings.limits
    if limits.connections_per_address > limits.connections:
        yield (
            "limits.connections_per_address",
            "is more than limits.connections",
            f"set at most {limits.connections}",
        )


def _auth_results(settings: Settings) -> Iterator[Violation]:
    for number, text in enumerate(settings.auth_results.trusted):
        if not _SERVER_NAME.fullmatch(text):
            reason = f"{text!r} is not the name of a mail server"
            yield f"auth_results.trusted[{number}]", reason, _SERVER_NAME_HINT
