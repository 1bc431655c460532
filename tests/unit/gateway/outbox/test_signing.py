"""Tests of DKIM signatures: valid, equal for equal mail, and broken by changes."""

from __future__ import annotations

import base64
import hashlib
from functools import cache

import dkim
import pytest
from dkim.canonicalization import Relaxed
from hypothesis import given
from hypothesis import strategies as st

from config.keys import read_key
from config.problems import ConfigError
from config.settings import OutboundSettings
from gateway.outbox import signing
from gateway.outbox.signing import CannotSign, Signer, body_hash
from tests.unit.gateway.outbox.conftest import MAIL, openssl

KEYS = {
    "rsa": ("genrsa", "-traditional", "2048"),
    "rsa in PKCS #8": ("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:1024"),
    "ed25519": ("genpkey", "-algorithm", "ed25519"),
}


@pytest.fixture(scope="module", params=KEYS)
def key(request):
    """Return a new key: its PEM file and its DNS record."""
    pem = openssl(*KEYS[request.param])
    public = openssl("pkey", "-pubout", "-outform", "DER", stdin=pem)
    kind = request.param.partition(" ")[0]
    shown = base64.b64encode(public if kind == "rsa" else public[-32:])
    return pem.decode(), f"v=DKIM1; k={kind}; p=".encode() + shown


def is_valid(raw, record):
    """Return whether a receiver accepts the signature."""
    asked = []

    def lookup(name, timeout=5):
        asked.append(name)
        return record

    valid = dkim.verify(raw, dnsfunc=lookup)
    assert asked == [b"desk._domainkey.example.org."]
    return valid


async def test_a_signature_is_valid(key):
    """The signature is valid, equal for equal bytes, and leaves the mail unchanged."""
    pem, record = key
    signer = Signer("example.org", "desk", read_key(pem))
    made = await signer.sign(MAIL)
    assert made.endswith(MAIL)
    assert made == await signer.sign(MAIL)
    assert b" t=" not in made.partition(b"\r\nFrom")[0]
    assert is_valid(made, record)


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.replace(b"Hello Ann", b"Hello Bob"),
        lambda made: made.replace(b"private matter", b"public matter"),
        lambda made: b"Subject: another one\r\n" + made,
        lambda made: b"From: bob@example.net\r\n" + made,
        lambda made: b"To: bob@example.net\r\n" + made,
    ],
)
async def test_a_change_makes_it_invalid(key, change):
    """Another body, another header, or a second From, To or Subject breaks it."""
    pem, record = key
    assert not is_valid(
        change(await Signer("example.org", "desk", read_key(pem)).sign(MAIL)), record
    )


async def test_changes_on_the_way_do_not_break_it(key):
    """Headers added on the way, and folding, do not break the signature."""
    pem, record = key
    made = await Signer("example.org", "desk", read_key(pem)).sign(MAIL)
    assert is_valid(
        b"Received: from desk.example\r\n"
        + made.replace(b"Subject: Re: A very ", b"Subject:  Re: A\r\n very "),
        record,
    )


async def test_every_header_that_matters_is_signed(key):
    """All relevant headers of the mail are signed, and From, To and Subject oversigned."""
    more = (
        b"Cc: bob@example.net\r\nIn-Reply-To: <1@x>\r\nReferences: <1@x>\r\nReply-To: "
        b"a@b.example\r\nAuto-Submitted: auto-replied\r\nX-Else: x\r\n"
    )
    made = await Signer("example.org", "desk", read_key(key[0])).sign(more + MAIL)
    head = b"".join(made.partition(b"\r\nCc")[0].split())
    signed = head.partition(b";h=")[2].partition(b";")[0].decode().split(":")
    assert sorted(signed) == sorted([*signing.SIGNED, "from", "to", "subject"])


async def test_a_mail_that_cannot_be_signed(key):
    """A mail with malformed headers raises CannotSign."""
    with pytest.raises(CannotSign):
        await Signer("example.org", "desk", read_key(key[0])).sign(
            b"no header at all\r\n\r\nbody\r\n"
        )


@given(
    st.lists(st.sampled_from([b"\r\n", b" ", b"\t", b"x", b"."]), max_size=60).map(
        lambda parts: b"".join([*parts, b"\r\n"])
    ),
    st.integers(1, 9),
)
def test_the_hash_of_a_body_in_pieces(body, piece):
    """The hash equals that of the whole relaxed body, wherever the chunks end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signing, "CHUNK_BYTES", piece)
        assert body_hash(body) == hashlib.sha256(Relaxed.canonicalize_body(body)).digest()


def test_a_body_that_is_empty():
    """An empty body has the hash of no bytes."""
    assert body_hash(b"") == hashlib.sha256(b"").digest()


def test_the_signer_of_a_configuration(key, tmp_path):
    """Without a key there is no signer; a key that became unusable is a ConfigError."""
    assert Signer.of(OutboundSettings()) is None
    path = tmp_path / "key.pem"
    path.write_text(key[0])
    given = OutboundSettings(
        dkim_domain="example.org", dkim_selector="desk", dkim_key_file=str(path)
    )
    assert isinstance(Signer.of(given), Signer)
    for bad in ("", key[0][:100], key[0].replace("PRIVATE", "PUBLIC")):
        path.write_text(bad)
        with pytest.raises(ConfigError):
            Signer.of(given)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ("genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            "neither RSA nor Ed25519",
        ),
        (("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:secret"), "encrypted"),
        (("genrsa", "-traditional", "-aes128", "-passout", "pass:secret", "1024"), "encrypted"),
        (("genrsa", "-traditional", "768"), "fewer than 1024 bits"),
        (("ecparam", "-name", "prime256v1"), "no private key, but: ec parameters"),
    ],
)
def test_unusable_keys_are_refused(arguments, reason):
    """Each unusable key is refused with its reason."""
    with pytest.raises(ValueError, match=reason):
        read_key(openssl(*arguments).decode())


@given(st.data())
def test_a_damaged_key_is_refused_with_a_message(data):
    """A damaged key is refused with a message, or still is a key."""
    kind = data.draw(st.sampled_from(sorted(KEYS)))
    der = bytearray(whole(kind))
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    der = der[: data.draw(st.integers(0, len(der)))]
    label = "RSA PRIVATE KEY" if kind == "rsa" else "PRIVATE KEY"
    text = (
        f"-----BEGIN {label}-----\n{base64.encodebytes(bytes(der)).decode()}-----END {label}-----\n"
    )
    try:
        said = read_key(text).kind
    except ValueError as error:
        said = str(error)
    assert said in {"rsa", "ed25519"} or said.startswith("contains ")


@cache
def whole(kind):
    """Return a valid key as DER."""
    return base64.b64decode(b"".join(openssl(*KEYS[kind]).splitlines()[1:-1]))
