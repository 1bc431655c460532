"""The configuration of the tests' Dovecot, in the syntax of version 2.3."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import require_program

CONFIG = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{folder}/tls/server.pem
ssl_key = <{folder}/tls/server.key
disable_plaintext_auth = no
default_internal_user = {internal}
default_login_user = {login}
default_internal_group = {group}
first_valid_uid = 1
mail_uid = {uid}
mail_gid = {gid}
mail_location = {location}
mail_max_userip_connections = 0
mail_fsync = never
mailbox_idle_check_interval = 1 secs
auth_mechanisms = plain login xoauth2 oauthbearer
auth_failure_delay = 0
auth_username_chars =
auth_username_format = %u
auth_verbose = yes
auth_debug = yes
namespace inbox {{
  inbox = yes
  separator = /
}}
service imap-login {{
  chroot =
  process_limit = 500
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service imap {{
  process_limit = 500
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
passdb {{
  driver = passwd-file
  mechanisms = {mechanisms}
  args = username_format=user {folder}/users/%u
}}
{token_check}
userdb {{
  driver = static
  args = allow_all_users=yes uid={uid} gid={gid} home={folder}/home/%u
}}
{extra}
"""
TOKEN_CHECK = """
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {folder}/oauth2.conf
}}
"""
OAUTH2 = """
introspection_url = {url}
introspection_mode = {mode}
force_introspection = yes
username_attribute = username
active_attribute = active
active_value = true
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of the mail: nobody if root runs the tests, else the current user."""

    name: str
    uid: int
    gid: int


def owner() -> Owner:
    """Return the :class:`Owner`."""
    entry = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.getuid())
    return Owner(entry.pw_name, entry.pw_uid, entry.pw_gid if os.geteuid() == 0 else os.getgid())


def write(
    folder: Path,
    *,
    port: int,
    tls_port: int,
    location: str,
    introspection_url: str = "",
    extra: str = "",
) -> None:
    """Write ``dovecot.conf``.

    A token is checked at ``introspection_url``: appended if it ends in ``=``, else in a header.
    Without a URL the password of a user is also the accepted token.
    """
    keeper = owner()
    internal, login = ("dovecot", "dovenull") if os.geteuid() == 0 else (keeper.name, keeper.name)
    mode = "get" if introspection_url.endswith("=") else "auth"
    (folder / "oauth2.conf").write_text(OAUTH2.format(url=introspection_url, mode=mode))
    (folder / "dovecot.conf").write_text(
        CONFIG.format(
            folder=folder,
            port=port,
            tls_port=tls_port,
            uid=keeper.uid,
            gid=keeper.gid,
            location=location,
            internal=internal,
            login=login,
            group="dovecot" if os.geteuid() == 0 else _group(keeper.gid),
            mechanisms="plain login" if introspection_url else "plain login xoauth2 oauthbearer",
            token_check=TOKEN_CHECK.format(folder=folder) if introspection_url else "",
            extra=extra,
        )
    )


def _group(gid: int) -> str:
    return grp.getgrgid(gid).gr_name


def require_dovecot() -> Path:
    """Return the path of a Dovecot 2.3, or skip the test (other versions differ in syntax)."""
    program = require_program("dovecot")
    version = subprocess.run(
        [program, "--version"], check=True, capture_output=True, text=True
    ).stdout
    if not version.startswith("2.3."):
        pytest.skip(f"the tests configure Dovecot 2.3, and this is {version.split()[0]}")
    return program
