"""A real Postfix that delivers to a Maildir, with which all speed figures are compared.

It runs in a temporary folder with its own configuration on a free loopback port, and needs root.
Without Postfix or root :func:`why_not` returns the reason.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
myhostname = reference.example
mydestination =
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
virtual_mailbox_domains = localhost, bench.example
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_peername_lookup = no
message_size_limit = 52428800
mailbox_size_limit = 0
virtual_mailbox_limit = 0
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
"""


def why_not() -> str | None:
    """Return why there can be no reference on this machine, or None."""
    if shutil.which("postfix", path="/usr/sbin:/usr/bin") is None:
        return "Postfix is not installed"
    return None if os.geteuid() == 0 else "Postfix needs root"


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def postfix(folder: Path) -> Iterator[tuple[int, Path]]:
    """Run a Postfix; yield its port and the ``new`` folder where its mail arrives."""
    folder.chmod(0o755)
    owner = pwd.getpwnam("postfix")
    for name in ("etc", "queue", "data", "mail"):
        (folder / name).mkdir()
    os.chown(folder / "data", owner.pw_uid, owner.pw_gid)
    os.chown(folder / "mail", owner.pw_uid, owner.pw_gid)
    port = free_port()
    (folder / "etc/main.cf").write_text(
        MAIN.format(folder=folder, uid=owner.pw_uid, gid=owner.pw_gid)
    )
    lines = []
    for line in Path("/usr/share/postfix/master.cf.dist").read_text().splitlines():
        words = line.split()
        if line.startswith("#") or len(words) < 8 or line[0].isspace():
            continue
        name = f"127.0.0.1:{port}" if words[0] == "smtp" and words[1] == "inet" else words[0]
        lines.append(" ".join([name, *words[1:4], "n", *words[5:]]))
    lines.append("postlog unix-dgram n - n - 1 postlogd")
    (folder / "etc/master.cf").write_text("\n".join(dict.fromkeys(lines)) + "\n")
    command = ["/usr/sbin/postfix", "-c", str(folder / "etc")]
    subprocess.run([*command, "start"], check=True, capture_output=True, timeout=60)
    try:
        _accepts(port)
        yield port, folder / "mail/box/new"
    finally:
        subprocess.run([*command, "stop"], check=False, capture_output=True, timeout=60)


def _accepts(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as probe:
                probe.recv(100)
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
