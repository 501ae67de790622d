"""The serving certificate and its authority over time (attack W-09): API servers always know who signed what is served."""

import datetime as dt
from collections.abc import Mapping

import pytest
from cryptography import x509

from webhook.operator.certificates import (
    AUTHORITY_DAYS,
    AUTHORITY_RENEWED,
    LEAF_DAYS,
    LEAF_RENEWED,
    PUBLISHED,
    Data,
    bundle,
    next_data,
)

NAMES = ["web.hook.svc", "web.hook.svc.cluster.local"]
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY, MINUTE = dt.timedelta(days=1), dt.timedelta(minutes=1)


def made(data: Data | None = None, now: dt.datetime = START, names: list[str] = NAMES) -> Data:
    found = next_data(data, names, now)
    assert found is not None
    return found


def leaf(data: Data) -> x509.Certificate:
    return x509.load_pem_x509_certificate(data["tls.crt"])


def authorities(data: Data) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(data["ca.crt"])


def accepted(data: Data, published: bytes, now: dt.datetime) -> bool:
    """Whether an API server that knows `published` accepts what is served for all names."""
    served = leaf(data)
    if not served.not_valid_before_utc <= now < served.not_valid_after_utc:
        return False
    for authority in x509.load_pem_x509_certificates(published):
        try:
            served.verify_directly_issued_by(authority)
        except Exception:  # noqa: BLE001, S112 - not this one
            continue
        return authority.not_valid_after_utc > now
    return False


def test_w09_from_nothing_there_is_a_pair_that_is_accepted() -> None:
    data = made()
    assert accepted(data, data["ca.crt"], START)
    names = leaf(data).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == NAMES
    assert next_data(data, NAMES, START) is None
    assert next_data(data, NAMES, START + dt.timedelta(days=LEAF_DAYS) - LEAF_RENEWED - DAY) is None


def test_w09_a_leaf_is_renewed_in_time_by_the_same_authority() -> None:
    data = made()
    now = START + dt.timedelta(days=LEAF_DAYS) - LEAF_RENEWED + DAY
    renewed = made(data, now)
    assert renewed["ca.crt"] == data["ca.crt"]
    assert leaf(renewed).serial_number != leaf(data).serial_number
    assert accepted(renewed, data["ca.crt"], now)


def test_w09_an_authority_has_a_successor_that_is_published_before_it_signs() -> None:
    data = made()
    now = START + dt.timedelta(days=AUTHORITY_DAYS) - AUTHORITY_RENEWED + DAY
    # The leaf has been renewed in between.
    data = made(data, now - LEAF_RENEWED)
    overlap = made(data, now)
    assert len(authorities(overlap)) == 2
    assert overlap["tls.crt"] == data["tls.crt"]
    assert next_data(overlap, NAMES, now + PUBLISHED - MINUTE) is None
    after = made(overlap, now + PUBLISHED + MINUTE)
    assert leaf(after).issuer == authorities(after)[0].subject
    assert after["ca.crt"] == overlap["ca.crt"]
    # What was published for the old one accepts the new one, and what is published for the new one accepts the old one.
    assert accepted(after, overlap["ca.crt"], now + PUBLISHED + MINUTE)
    assert accepted(data, after["ca.crt"], now + PUBLISHED + MINUTE)


def test_w09_an_authority_that_has_ended_is_dropped() -> None:
    data = made()
    now = START + dt.timedelta(days=AUTHORITY_DAYS) - AUTHORITY_RENEWED + DAY
    overlap = made(made(data, now - LEAF_RENEWED), now)
    later = START + dt.timedelta(days=AUTHORITY_DAYS) + DAY
    after = made(overlap, later)
    assert len(authorities(after)) == 1
    assert accepted(after, after["ca.crt"], later)


def test_w09_three_years_of_a_leader_that_looks_every_five_days() -> None:
    data: Data | None = None
    published = b""
    for step in range(3 * 73):
        now = START + step * 5 * DAY
        for moment in (now, now + PUBLISHED + MINUTE):
            wanted = next_data(data, NAMES, moment)
            if wanted is not None:
                published = bundle(wanted, published, moment)
                # Replicas still serve the old pair for a moment, and then the new one.
                assert data is None or accepted(data, published, moment)
                data = wanted
            assert data is not None
            assert accepted(data, published, moment)
            assert len(authorities(data)) <= 2


@pytest.mark.parametrize("broken", [
    {}, {"ca.crt": b""}, {"tls.crt": b"x"}, {"tls.key": b"x"}, {"ca.key": b"x"}, {"ca.crt": b"x"}, {"tls.key": None},
])  # fmt: skip
def test_w09_what_cannot_be_read_is_made_anew(broken: Mapping[str, bytes | None]) -> None:
    data = made()
    changed = {name: value for name, value in {**data, **broken}.items() if value is not None} if broken else {}
    again = made(changed)
    assert accepted(again, again["ca.crt"], START)


def test_w09_keys_that_are_another_certificates_are_made_anew() -> None:
    one, other = made(), made()
    for name in ("tls.key", "ca.key"):
        assert next_data({**one, name: other[name]}, NAMES, START) is not None
    # A leaf of another authority is no use either.
    mixed = made({**one, "tls.crt": other["tls.crt"], "tls.key": other["tls.key"]})
    assert accepted(mixed, one["ca.crt"], START)


def test_w09_another_name_and_a_clock_that_went_back() -> None:
    data = made()
    renamed = made(data, START, ["other.hook.svc"])
    assert renamed["ca.crt"] == data["ca.crt"]
    assert next_data(data, NAMES, START - 4 * MINUTE) is None
    early = made(data, START - 400 * DAY)
    assert leaf(early).not_valid_before_utc < START - 400 * DAY


def test_w09_what_was_published_stays_published_until_it_ends() -> None:
    lost, found = made(), made(now=START + DAY)
    both = bundle(found, lost["ca.crt"], START + DAY)
    assert accepted(lost, both, START + DAY)
    assert accepted(found, both, START + DAY)
    assert bundle(found, b"not PEM", START) == found["ca.crt"]
    assert bundle(found, lost["ca.crt"], START + 400 * DAY) == found["ca.crt"]
    many = b"".join(made(now=START + i * MINUTE)["ca.crt"] for i in range(9))
    assert len(x509.load_pem_x509_certificates(bundle(found, many, START + DAY))) == 4


def test_m06_an_authority_that_is_not_ours_is_not_published() -> None:
    ours = made()
    strange = ours["tls.crt"]
    assert bundle(ours, strange, START) == ours["ca.crt"]
