"""RFC 3161 timestamps: over what, by whom, and when they were in force."""

import base64
import datetime as dt
import json
from collections.abc import Callable

import pytest

from tests import captures
from tests.fake.pki import CODE_SIGNING, DAY, NOW, ODD, TIME_STAMPING, Issued, issue, timestamp, with_odd_name
from webhook import limits
from webhook.formats._timestamp import Authority, Timestamp, read_authorities, verify_timestamp
from webhook.formats._x509 import parse_certificates
from webhook.parsing import Invalid
from webhook.trust import Rejected

ROOT = issue("root", ca=True)
BETWEEN = issue("between", ROOT, ca=True)
TSA = issue("tsa", BETWEEN, purposes=[TIME_STAMPING])
MESSAGE = b"the signature"


def trusted(
    *certificates: Issued, begins: dt.datetime | None = None, ends: dt.datetime | None = None
) -> tuple[Authority, ...]:
    return read_authorities([one.certificate for one in certificates], "tsa", begins, ends)


ALL = trusted(ROOT, BETWEEN, TSA)


@pytest.mark.parametrize(
    "token",
    [
        timestamp(TSA, MESSAGE),
        timestamp(TSA, MESSAGE, bare=True),
        timestamp(TSA, MESSAGE, certificates=[]),
        timestamp(TSA, MESSAGE, certificates=[TSA, BETWEEN, ROOT]),
        timestamp(TSA, MESSAGE, certificates=[ROOT, BETWEEN, TSA]),
        timestamp(TSA, MESSAGE, algorithm="sha384"),
        timestamp(TSA, MESSAGE, algorithm="sha512"),
    ],
    ids=["response", "bare", "without", "one order", "another", "sha384", "sha512"],
)
def test_every_form_that_is_written_is_read(token: bytes) -> None:
    assert verify_timestamp(token, MESSAGE, ALL) == Timestamp(NOW)


def test_a_root_alone_is_enough_where_the_token_brings_the_rest() -> None:
    whole = timestamp(TSA, MESSAGE, certificates=[TSA, BETWEEN])
    assert verify_timestamp(whole, MESSAGE, trusted(ROOT)) == Timestamp(NOW)
    with pytest.raises(Rejected, match="not signed by an authority that is trusted"):
        verify_timestamp(timestamp(TSA, MESSAGE), MESSAGE, trusted(ROOT))


def test_what_is_lacking_where_nobody_brings_the_authoritys_certificate_is_told() -> None:
    bare = timestamp(TSA, MESSAGE, certificates=[])
    with pytest.raises(
        Rejected, match="timestamp: the token brings no certificate, so the authority's own has to stand"
    ):
        verify_timestamp(bare, MESSAGE, trusted(ROOT, BETWEEN))
    stranger = issue("stranger", ROOT, purposes=[TIME_STAMPING])
    with pytest.raises(Rejected, match="not signed by an authority that is trusted"):
        verify_timestamp(bare, MESSAGE, trusted(ROOT, BETWEEN, stranger))


def test_the_baseline_policy_is_right_within_a_second_where_nothing_is_said() -> None:
    second, baseline = dt.timedelta(seconds=1), "0.4.0.2023.1.1"
    assert verify_timestamp(timestamp(TSA, MESSAGE, policy=baseline), MESSAGE, ALL) == Timestamp(NOW, second)
    said = timestamp(TSA, MESSAGE, policy=baseline, accuracy=second * 2)
    assert verify_timestamp(said, MESSAGE, ALL) == Timestamp(NOW, second * 2)


def test_accuracy_widens_the_moment() -> None:
    exact = timestamp(TSA, MESSAGE, accuracy=dt.timedelta(seconds=2, milliseconds=3, microseconds=4))
    found = verify_timestamp(exact, MESSAGE, ALL)
    slack = dt.timedelta(seconds=2, microseconds=3004)
    assert (found.earliest, found.latest) == (NOW - slack, NOW + slack)
    assert not found.within(NOW, None)
    assert not found.within(None, NOW)
    assert found.within(NOW - slack, NOW + slack)


def test_what_openssl_wrote_over_a_real_signature() -> None:
    folder = captures.path("cosign-keyless-bundle-tsa")
    bundles = [json.loads(body) for file in folder.glob("blob-*") if b'"dsseEnvelope"' in (body := file.read_bytes())]
    authorities = read_authorities(parse_certificates(captures.key("tsa-chain.pem"), "tsa"), "tsa")
    assert len(bundles) == 2
    for bundle in bundles:
        signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
        (written,) = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
        token = base64.b64decode(written["signedTimestamp"])
        assert verify_timestamp(token, signature, authorities).at.date() == NOW.date()
        with pytest.raises(Rejected, match="Mismatch between messages"):
            verify_timestamp(token, signature + b"x", authorities)


@pytest.mark.parametrize(
    ("token", "authorities", "why"),
    [
        (timestamp(TSA, MESSAGE), (), "trusts no timestamp authority"),
        (timestamp(TSA, b"another"), ALL, "Mismatch between messages"),
        (timestamp(TSA, MESSAGE, algorithm="sha1"), ALL, "Unsupported hash algorithm"),
        (timestamp(TSA, MESSAGE, changed=lambda s: s[:-1] + bytes([s[-1] ^ 1])), ALL, "not signed by an authority"),
        (timestamp(TSA, MESSAGE, status="rejection"), ALL, "not GRANTED"),
        (timestamp(TSA, MESSAGE, at=NOW + 2 * DAY), ALL, "not signed by an authority"),
        (timestamp(issue("tsa", purposes=[TIME_STAMPING]), MESSAGE), ALL, "not signed by an authority"),
        (
            timestamp(issue("x", BETWEEN, purposes=[CODE_SIGNING]), MESSAGE),
            trusted(ROOT, BETWEEN),
            "not signed by an authority",
        ),
        (timestamp(issue("x", BETWEEN), MESSAGE), trusted(ROOT, BETWEEN), "not signed by an authority"),
        (timestamp(issue("x", BETWEEN, purposes=[TIME_STAMPING]), MESSAGE), ALL, "does not match"),
        (timestamp(TSA, MESSAGE, certificates=[TSA] * 12), ALL, "not one that can be read"),
        (b"x" * (limits.MAX_TIMESTAMP + 1), ALL, "more than 65536 bytes"),
    ],
)
def test_c10_what_proves_no_time(token: bytes, authorities: tuple[Authority, ...], why: str) -> None:
    with pytest.raises(Rejected, match=why):
        verify_timestamp(token, MESSAGE, authorities)


def test_c10_an_authority_counts_in_its_own_window_only() -> None:
    retired = trusted(ROOT, BETWEEN, TSA, ends=NOW - dt.timedelta(seconds=1))
    stranger = issue("stranger", ca=True)
    other = trusted(stranger, issue("its tsa", stranger, purposes=[TIME_STAMPING]))
    token = timestamp(TSA, MESSAGE)
    with pytest.raises(Rejected, match="not in force at that time; not signed by"):
        verify_timestamp(token, MESSAGE, (*retired, *other))
    for window in ((NOW, None), (None, NOW), (NOW, NOW)):
        within = trusted(ROOT, BETWEEN, TSA, begins=window[0], ends=window[1])
        assert verify_timestamp(token, MESSAGE, within) == Timestamp(NOW)
    with pytest.raises(Rejected, match="not in force"):
        verify_timestamp(token, MESSAGE, trusted(ROOT, BETWEEN, TSA, begins=NOW + dt.timedelta(seconds=1)))


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda _: b"\x30\x00",
        lambda _: b"\x30\x03\x02\x01\x00",
        lambda token: token[:-1],
        lambda token: token + b"\x00",
        lambda _: b"\x30\x05\x30\x03\x02\x01\x00",
        lambda _: b"\x30\x80" * 5_000,
    ],
)
def test_c13_what_is_no_timestamp(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Rejected, match="timestamp: not one that can be read"):
        verify_timestamp(change(timestamp(TSA, MESSAGE)), MESSAGE, ALL)


def test_c13_what_the_library_finds_late_is_a_rejection_too() -> None:
    """A certificate that nobody needs is of a version that there is not; the library looks at it after everything else."""
    token = timestamp(TSA, MESSAGE, certificates=[TSA, ROOT])
    assert verify_timestamp(token, MESSAGE, ALL) == Timestamp(NOW)
    version = b"\xa0\x03\x02\x01\x02"
    odd = token.replace(ROOT.der, ROOT.der.replace(version, b"\xa0\x03\x02\x01\x19", 1))
    assert odd != token
    with pytest.raises(Rejected, match="timestamp: 25 is not a valid X509 version"):
        verify_timestamp(odd, MESSAGE, ALL)


def test_c13_every_single_changed_byte_is_rejected_or_changes_nothing_that_counts() -> None:
    token = timestamp(TSA, MESSAGE)
    for i in range(0, len(token), 3):
        changed = token[:i] + bytes([token[i] ^ 0x41]) + token[i + 1 :]
        try:
            assert verify_timestamp(changed, MESSAGE, ALL) == Timestamp(NOW)
        except Rejected:
            continue


def test_v01_authorities_without_a_root_are_refused() -> None:
    for certificates in ((), (TSA,), (BETWEEN, TSA)):
        with pytest.raises(Invalid, match=r"^tsa: no self-signed root"):
            trusted(*certificates)


def test_v01_an_authority_whose_name_nobody_can_read_is_refused() -> None:
    for odd in (with_odd_name(issue(ODD, ca=True)), with_odd_name(issue(ODD, ROOT, ca=True), ROOT.key)):
        with pytest.raises(Invalid, match=r"^tsa: a certificate whose names cannot be read"):
            trusted(ROOT, odd)


def test_each_pinned_certificate_is_an_authority_of_its_own() -> None:
    second = issue("second", BETWEEN, purposes=[TIME_STAMPING])
    authorities = trusted(ROOT, BETWEEN, TSA, second)
    assert [one.certificate for one in authorities] == [TSA.certificate, second.certificate]
    assert verify_timestamp(timestamp(second, MESSAGE), MESSAGE, authorities) == Timestamp(NOW)


def test_a_certificate_that_says_nothing_of_authorities_is_none() -> None:
    silent = issue("silent", BETWEEN, purposes=[TIME_STAMPING], constraints=False)
    (authority,) = trusted(ROOT, BETWEEN, silent)
    assert authority.certificate == silent.certificate


def test_v02_an_answer_that_is_not_yes_is_a_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfc3161_client.verify._Verifier.verify_message", lambda *_: False)
    with pytest.raises(Rejected, match="it does not verify"):
        verify_timestamp(timestamp(TSA, MESSAGE), MESSAGE, ALL)
