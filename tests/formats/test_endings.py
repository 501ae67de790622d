"""When the material of keys ends: read from what real tools wrote; nothing is decided by it."""

import datetime as dt
import json
from typing import Any

import pytest

from tests import captures
from tests.fake.openpgp import DAY, bound, certificate, lasting, openpgp_key, self_signed
from webhook.formats.endings import Ending, endings_of

EDGE = captures.path("gpg-edge-cases")


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[arg-type, misc]  # six numbers at the most


def test_certificates_end_each_by_itself() -> None:
    pem = captures.key("byo-root.pem") + captures.key("tsa-chain.pem")
    assert endings_of("cosign", pem) == (
        Ending("certificate", "certificate CN=Acme Root,O=Acme", utc(2036, 11, 21, 0, 36, 44)),
        Ending("certificate", "certificate CN=Acme TSA,O=Acme,C=US", utc(2036, 11, 20, 0, 36, 43)),
        Ending("certificate", "certificate CN=Acme TSA Root,O=Acme,C=US", utc(2036, 11, 20, 0, 36, 43)),
    )
    # Content Trust pins a certificate's key, and looks at its end all the same.
    (found,) = endings_of("dct", captures.key("dct.pem"))
    assert found.at == utc(2036, 11, 21, 0, 37, 5)


@pytest.mark.parametrize(
    ("name", "material"),
    [
        ("cosign", captures.key("cosign.pub")), ("cosign", b""), ("cosign", b"{"), ("gpg", b"x"),
        ("cosign", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), ("gpg", (EDGE / "rsa.gpg").read_bytes()),
    ],
)  # fmt: skip
def test_a_bare_key_has_no_end_and_what_cannot_be_read_tells_none(name: str, material: bytes) -> None:
    assert endings_of(name, material) == ()


def test_a_gpg_key_ends_as_gnupg_has_written() -> None:
    expired = Ending("key", "key GPG:B09C26D407ED31AB6F5B79F9E79F060B3B4B27C2", utc(2026, 11, 23, 18, 42, 11))
    assert endings_of("gpg", (EDGE / "exp.gpg").read_bytes()) == (expired,)
    # Among others that never end, armored too.
    assert endings_of("gpg", (EDGE / "ring.asc").read_bytes()) == (expired,)


def test_a_subkey_ends_with_the_primary_key_at_the_latest() -> None:
    primary, sub = openpgp_key("radar"), openpgp_key("radar sub")

    def ends(primary_days: int, sub_days: int) -> set[dt.datetime]:
        parts = (
            self_signed(primary, lasting(primary_days * DAY)),
            bound(primary, sub, lasting(sub_days * DAY)),
        )
        return {one.at for one in endings_of("gpg", certificate(primary, *parts)) if sub.fingerprint in one.what}

    assert ends(40, 400) == ends(40, 40)
    assert ends(400, 40) == ends(40, 400)
    assert ends(400, 400) != ends(400, 40)


def root(**changes: Any) -> bytes:
    document = json.loads(captures.key("trusted_root.json"))
    for name, windows in changes.items():
        (entry, *_) = document[name]
        place = entry.get("publicKey", entry)
        document[name] = [
            {
                **entry,
                **({"publicKey": {**place, "validFor": window}} if "publicKey" in entry else {"validFor": window}),
            }
            for window in windows
        ]
    return json.dumps(document).encode()


def ends_of(material: bytes) -> dict[str, dt.datetime]:
    assert {one.kind for one in endings_of("cosign", material)} == {"trust_root"}
    return {one.what: one.at for one in endings_of("cosign", material)}


def test_of_a_trust_root_the_last_of_each_kind_is_told() -> None:
    authority, stamps = (
        "the last certificate authority of its trust root",
        "the last timestamp authority of its trust root",
    )
    assert ends_of(root()) == {authority: utc(2036, 11, 21, 0, 36, 42), stamps: utc(2036, 11, 20, 0, 36, 43)}
    public = ends_of(captures.PUBLIC_ROOT)
    assert public[authority] == utc(2031, 10, 5, 13, 56, 58)
    past, soon = (
        {"start": "2020-01-01T00:00:00Z", "end": "2022-01-01T00:00:00Z"},
        {"start": "2020-01-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"},
    )
    # The window ends before the certificate does; an older window is how a trust root grows.
    assert ends_of(root(certificateAuthorities=[past, soon]))[authority] == utc(2027, 1, 1)
    log = "the last transparency log of its trust root"
    assert ends_of(root(tlogs=[past, soon]))[log] == utc(2027, 1, 1)
    # One that never ends goes on when the others have ended.
    assert log not in ends_of(root(tlogs=[past, {"start": "2020-01-01T00:00:00Z"}]))
