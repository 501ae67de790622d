"""What both forms of a Notary Project signature must hold, and what each may not: attack N-09 and N-11, field by field."""

import base64
import datetime as dt
import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests import captures
from tests.fake.notation import (
    AUTHENTIC_TIME,
    EXPIRY,
    PAYLOAD_TYPE,
    SCHEME,
    SIGNING_TIME,
    TIMESTAMP,
    Form,
    Tagged,
    b64url,
    cbor,
    headers,
    jws,
    party,
    payload,
    store,
    trusting,
)
from tests.fake.pki import NOW
from tests.fake.registry import to_json
from tests.formats.test_contract import claim_of
from tests.formats.test_notation import ACME, BOTH, CA, PATH, SIGNER, STAMPED, Signed, build, captured
from webhook import limits
from webhook.formats.notation import cose as cose_reader
from webhook.formats.notation import jws as jws_reader
from webhook.parsing import Invalid
from webhook.trust import Claim, Rejected, Untrusted

SERVICE = "notary.x509.signingAuthority"
MINUTE = dt.timedelta(minutes=1)


@BOTH
@pytest.mark.parametrize(
    ("change", "why"),
    [
        # N-09: what must be understood.
        (
            {"crit": [SCHEME, "io.cncf.notary.future"], "io.cncf.notary.future": "x"},
            "io.cncf.notary.future is not understood",
        ),
        ({"crit": [SCHEME, EXPIRY]}, "critical header io.cncf.notary.expiry is not understood"),
        ({"crit": [SCHEME, SIGNING_TIME]}, "critical header io.cncf.notary.signingTime is not understood"),
        ({"crit": [SCHEME, "cty"]}, "critical header cty is not understood"),
        ({"crit": [SCHEME, SCHEME]}, "must be marked critical, each once"),
        ({"crit": []}, "io.cncf.notary.signingScheme must be marked critical"),
        ({"crit": [1]}, "critical header 1 is not understood"),
        ({"crit": [[SCHEME]]}, "is not understood"),
        ({"crit": SCHEME}, "crit: expected a list"),
        ({"crit": None}, "crit: expected a list"),
        ({EXPIRY: NOW + MINUTE}, "expiry, io.cncf.notary.signingScheme must be marked critical"),
        ({"io.cncf.notary.verificationPlugin": "com.example.plugin"}, "demands a verification plugin"),
        (
            {"crit": [SCHEME, "io.cncf.notary.verificationPlugin"], "io.cncf.notary.verificationPlugin": "x"},
            "demands a verification plugin",
        ),
        ({"io.cncf.notary.verificationPluginMinVersion": "1.0.0"}, "demands a verification plugin"),
        # The scheme, and the times that belong to it.
        ({SCHEME: "notary.x509.future"}, "signing scheme notary.x509.future is not supported"),
        ({SCHEME: None}, "signing scheme None is not supported"),
        ({SCHEME: ["notary.x509"]}, "is not supported"),
        ({SCHEME: SERVICE}, "authenticSigningTime, io.cncf.notary.signingScheme must be marked critical"),
        ({SCHEME: SERVICE, "crit": [SCHEME, AUTHENTIC_TIME]}, "has io.cncf.notary.authenticSigningTime and not"),
        ({AUTHENTIC_TIME: NOW}, "has io.cncf.notary.signingTime and not"),
        ({SIGNING_TIME: "yesterday"}, "signingTime: not a time"),
        ({SIGNING_TIME: None}, "signingTime: "),
        ({SIGNING_TIME: 1}, "signingTime: "),
        ({EXPIRY: NOW - MINUTE, "crit": [SCHEME, EXPIRY]}, "it expires before it was signed"),
        ({EXPIRY: "x", "crit": [SCHEME, EXPIRY]}, "expiry: not a time"),
        # N-11: type and algorithm.
        ({"cty": "application/json"}, f"expected (content type )?{re.escape(PAYLOAD_TYPE)}"),
        ({"cty": None}, f"expected (content type )?{re.escape(PAYLOAD_TYPE)}"),
        ({"alg": "none"}, "none is not accepted"),
        ({"alg": "HS256"}, "HS256 is not accepted"),
        ({"alg": "RS256"}, "RS256 is not accepted"),
        ({"alg": "EdDSA"}, "EdDSA is not accepted"),
        ({"alg": "ES384"}, "its algorithm is ES384, and its key's is ES256"),
        ({"alg": "PS256"}, "its algorithm is PS256, and its key's is ES256"),
        ({"alg": None}, "expected text|None is not accepted"),
        ({"alg": []}, r"expected text|\[\] is not accepted"),
    ],
)
async def test_n09_n11_headers_that_are_not_understood_are_refused(
    form: Form, change: dict[str, Any], why: str
) -> None:
    refusal = await Signed(form=form, edit_protected=lambda protected: protected.update(change)).refusal(CA)
    assert re.search(why, refusal), refusal


@BOTH
@pytest.mark.parametrize("name", ["alg", "cty", "crit", SCHEME, SIGNING_TIME])
async def test_n09_headers_that_are_missing_are_missed(form: Form, name: str) -> None:
    refusal = await Signed(form=form, edit_protected=lambda protected: protected.pop(name)).refusal(CA)
    assert re.search("expected|not supported|not accepted|has io.cncf", refusal), refusal


@BOTH
async def test_what_need_not_be_understood_is_let_pass(form: Form) -> None:
    await Signed(form=form, edit_protected=lambda protected: protected.update({"com.example.build": "7"})).proof(CA)
    await Signed(form=form, edit_header=lambda header: header.update({"com.example.build": "7"})).proof(CA)


@BOTH
@pytest.mark.parametrize(
    ("chain", "why"),
    [
        ([], "its certificate chain is empty"),
        (None, "expected|convert"),
        ("x", "expected|base64"),
        ([None], "expected"),
        ([b"x"], "certificate 0: not a certificate"),
        (SIGNER.chain * 5, f"more than {limits.MAX_CHAIN} certificates"),
        ([b"x" * (limits.MAX_CERTIFICATE + 1)], f"certificate 0: more than {limits.MAX_CERTIFICATE} bytes"),
    ],
)
async def test_n10_d01_chains_that_are_none_are_refused(form: Form, chain: Any, why: str) -> None:
    def put(header: dict[Any, Any]) -> None:
        if form == "cose":
            header[33] = chain
        elif isinstance(chain, list):
            header["x5c"] = [base64.b64encode(one).decode() if isinstance(one, bytes) else one for one in chain]
        else:
            header["x5c"] = chain

    refusal = await Signed(form=form, edit_header=put).refusal(CA)
    assert re.search(why, refusal), refusal


@BOTH
async def test_n11_a_header_that_is_protected_and_unprotected_is_refused(form: Form) -> None:
    def twice(header: dict[Any, Any]) -> None:
        header[SCHEME] = "notary.x509"

    assert "protected and unprotected at once" in await Signed(form=form, edit_header=twice).refusal(CA)


# ── JWS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def refused_jws(edit: Callable[[dict[str, Any]], object]) -> str:
    return await Signed(edit_envelope=edit).refusal(CA)


async def test_n11_jws_has_one_signature_in_one_form() -> None:
    def general(envelope: dict[str, Any]) -> None:
        envelope["signatures"] = [{"protected": envelope["protected"], "signature": envelope["signature"]}]

    assert "unknown field signatures" in await refused_jws(general)
    for name in ("payload", "protected", "header", "signature"):
        assert f"missing required field {name}" in await refused_jws(lambda envelope, name=name: envelope.pop(name))  # type: ignore[misc]  # bound at once
    assert "not base64url" in await refused_jws(lambda envelope: envelope.update(signature=envelope["signature"] + "="))
    assert "not base64url" in await refused_jws(lambda envelope: envelope.update(payload=envelope["payload"] + "\n"))
    assert "not base64url" in await refused_jws(lambda envelope: envelope.update(payload="é"))
    assert "not base64url" in await refused_jws(lambda envelope: envelope.update(signature=""))
    assert "not base64url" in await refused_jws(lambda envelope: envelope.update(signature=envelope["signature"] + "a"))
    assert "protected: expected an object" in await refused_jws(
        lambda envelope: envelope.update(protected=b64url(b"[]"))
    )


@pytest.mark.parametrize("name", ["Alg", "CTY", "Crit", "IO.cncf.notary.expiry"])
async def test_n11_names_that_differ_in_letter_case_are_refused(name: str) -> None:
    """The signers' own parser takes them for the same, the last one winning."""
    refusal = await Signed(edit_protected=lambda protected: protected.update({name: "x"})).refusal(CA)
    assert "are one name to other readers" in refusal
    assert "are one name" in await Signed(edit_header=lambda header: header.update(X5C=[])).refusal(CA)


@pytest.mark.parametrize("value", [True, False])
async def test_n11_unencoded_payloads_are_refused(value: bool) -> None:
    def unencoded(protected: dict[str, Any]) -> None:
        protected.update(b64=value, crit=[SCHEME, "b64"])

    assert "b64: not supported" in await Signed(edit_protected=unencoded).refusal(CA)


async def test_n11_a_protected_header_with_a_name_twice_is_refused() -> None:
    written = {name: value for name, value in headers("ES256").items() if name != SIGNING_TIME}
    raw = to_json(written)[:-1] + b',"io.cncf.notary.signingTime":"2026-11-24T00:37:00Z","alg":"ES256"}'
    assert "duplicate key alg" in await Signed(raw_protected=raw).refusal(CA)
    await Signed(raw_protected=raw.replace(b',"alg":"ES256"}', b"}")).proof(CA)


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-24T00:37:00Z",
        "2026-11-24T00:37:00.123456789Z",
        "2026-11-24T01:37:00+01:00",
        "2026-11-23T23:37:00-01:00",
    ],
)
async def test_times_of_rfc_3339(time: str) -> None:
    await Signed(edit_protected=lambda protected: protected.update({SIGNING_TIME: time})).proof(CA)


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-24",
        "2026-11-24T00:37:00",
        "2026-11-24 00:37:00Z",
        "20261124T003700Z",
        "2026-11-31T00:00:00Z",
        "2026-11-24T24:00:00Z",
        "2026-W48-2T00:00:00Z",
        "2026-11-24T00:37:00,5Z",
        "2026-11-24T00:37:60Z",
        "\u0662026-11-24T00:37:00Z",
    ],
)
async def test_other_times_are_none(time: str) -> None:
    refusal = await Signed(edit_protected=lambda protected: protected.update({SIGNING_TIME: time})).refusal(CA)
    assert "signingTime: not a time of RFC 3339" in refusal


# ── COSE ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def refused_cose(edit: Callable[[list[Any]], object] | None = None, **options: Any) -> str:
    return await Signed(form="cose", edit_envelope=edit, **options).refusal(CA)


async def test_n11_cose_has_its_tag_and_four_parts() -> None:
    assert "not a COSE_Sign1 with its tag" in await refused_cose(tag=None)
    assert "not a COSE_Sign1 with its tag" in await refused_cose(tag=98)
    assert "not the four parts" in await refused_cose(lambda parts: parts.append(b""))
    assert "not the four parts" in await refused_cose(lambda parts: parts.pop())
    for i, name in ((0, "protected"), (2, "payload"), (3, "signature")):
        for value in (None, b"", "x", 1):
            refusal = await refused_cose(lambda parts, i=i, value=value: parts.__setitem__(i, value))  # type: ignore[misc]  # bound at once
            assert f"cose.{name}: expected bytes, at least one" in refusal
    assert "unprotected: expected a map" in await refused_cose(lambda parts: parts.__setitem__(1, []))
    assert "protected: expected a map" in await refused_cose(raw_protected=cbor([]))
    with pytest.raises(Invalid, match="cose: expected a list"):
        cose_reader.read(cbor(Tagged(18, {})))


async def test_n11_cose_with_indefinite_lengths_or_trailing_bytes_is_refused() -> None:
    good = headers("ES256")
    content = Signed(form="cose").registry.blobs
    [envelope] = [blob for blob in content.values() if blob[:1] == b"\xd2"]
    for changed, why in (
        (envelope + b"\x00", "bytes behind its end"),
        (envelope[:1] + b"\x9f" + envelope[2:] + b"\xff", "an indefinite length"),
        (envelope[:-1], "ends too early"),
    ):
        with pytest.raises(Invalid, match=why):
            cose_reader.read(changed)
    labels = {"alg": 1, "crit": 2, "cty": 3}
    protected = {labels.get(name, name): value for name, value in good.items()} | {1: -7}
    twice = cbor(protected)[:1].replace(b"\xa5", b"\xa6") + cbor(protected)[1:] + cbor(1) + cbor(-7)
    assert "duplicate key 1" in await refused_cose(raw_protected=twice)


async def test_a_lone_certificate_may_stand_without_a_list_and_the_chain_in_either_header() -> None:
    alone = party("Alone")
    trusted = trusting(store("ca", alone))
    bare: Callable[[dict[Any, Any]], None] = lambda header: header.update({33: alone.der})  # noqa: E731 - its type
    await Signed(alone, "cose", edit_header=bare).proof(trusted)
    protected: Callable[[dict[Any, Any]], None] = lambda header: header.update({"x5c": alone.chain})  # noqa: E731 - the same
    without: Callable[[dict[Any, Any]], object] = lambda header: header.pop(33)  # noqa: E731 - the same
    await Signed(alone, "cose", edit_protected=protected, edit_header=without).proof(trusted)
    assert "at once" in await Signed(alone, "cose", edit_protected=protected).refusal(trusted)


@pytest.mark.parametrize(
    "value",
    [
        Tagged(0, "2026-11-24T00:37:00Z"),
        1795480620,
        Tagged(1, "x"),
        Tagged(1, True),
        Tagged(1, 2**62),
        Tagged(1, -(2**62)),
        "x",
    ],
)
async def test_times_in_cose_are_whole_seconds_under_their_tag(value: object) -> None:
    def put(protected: dict[str, Any]) -> None:
        protected[SIGNING_TIME] = value

    assert "signingTime: not a time in whole seconds under tag 1" in await refused_cose(edit_protected=put)


async def test_a_timestamp_that_is_no_text_or_bytes_is_refused() -> None:
    put: Callable[[dict[Any, Any]], None] = lambda header: header.update({TIMESTAMP: 1})  # noqa: E731 - its type
    assert "expected" in await Signed(edit_header=put).refusal(CA)
    assert "expected bytes" in await Signed(form="cose", edit_header=put).refusal(CA)


# ── mutation ─────────────────────────────────────────────────────────────────────────────────────────────────────────
ODD: tuple[Any, ...] = (None, {}, [], "", 0, True, -1, "x", ["x"], {"x": 1})


def evidence(form: Form, content: bytes, of: Signed) -> tuple[Untrusted, Claim]:
    manifest = of.registry.manifests[PATH, of.digest]
    parts = {
        "envelope": content,
        "media type": {"jws": b"application/jose+json", "cose": b"application/cose"}[form],
        "image size": str(len(manifest.body)).encode(),
        "image media type": manifest.media_type.encode(),
    }
    return Untrusted("x", parts), claim_of(of.digest)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    members = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in members:
        found += places(value, (*path, key))
    return found


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = dict(document) if isinstance(document, dict) else list(document)
    changed[path[0]] = replaced(changed[path[0]], path[1:], value)
    return changed


def signed_parts() -> dict[str, Any]:
    signed = Signed()
    size = len(signed.registry.manifests[PATH, signed.digest].body)
    return {
        "payload": payload(signed.digest, size),
        "protected": {
            **headers("ES256", expiry=NOW + MINUTE),
            SIGNING_TIME: "2026-11-24T00:37:00Z",
            EXPIRY: "2026-11-24T00:39:00Z",
        },
        "header": {
            "x5c": [base64.b64encode(one).decode() for one in SIGNER.chain],
            TIMESTAMP: base64.b64encode(b"x").decode(),
        },
    }


@pytest.mark.parametrize("part", ["payload", "protected", "header"])
def test_every_field_replaced_by_everything_is_refused_and_nothing_else_happens(part: str) -> None:
    of, parts = Signed(), signed_parts()
    signer = build(STAMPED)
    for path in places(parts[part]):
        for value in ODD:
            if part == "payload" and path == ("targetArtifact", "annotations"):
                continue
            changed = {**parts, part: replaced(parts[part], path, value)}
            envelope = json.loads(
                jws(SIGNER, to_json(changed["payload"]), {}, raw_protected=to_json(changed["protected"]))
            )
            content = to_json({**envelope, "header": changed["header"]})
            untrusted, claim = evidence("jws", content, of)
            with pytest.raises((Rejected, Invalid)):
                signer.check(untrusted, claim, NOW)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@BOTH
def test_any_byte_of_a_capture_changed_is_refused(form: Form) -> None:
    folder = captures.path(f"notation-{form}")
    [envelope] = [file.read_bytes() for file in folder.glob("blob-*") if file.stat().st_size > 1000]
    registry = captured(f"notation-{form}")
    manifest = registry.manifests[PATH, captures.IMAGE]
    parts = {
        "media type": {"jws": b"application/jose+json", "cose": b"application/cose"}[form],
        "image size": str(len(manifest.body)).encode(),
        "image media type": manifest.media_type.encode(),
    }
    signer, claim = build(trusting(ACME)), claim_of(captures.IMAGE)
    assert signer.check(Untrusted("x", {**parts, "envelope": envelope}), claim, captures.NOW).format == "notation"
    agent = envelope.index(b"signingAgent")
    for position in range(0, len(envelope), 3):
        changed = bytearray(envelope)
        changed[position] ^= 1 << position % 7
        try:
            signer.check(Untrusted("x", {**parts, "envelope": bytes(changed)}), claim, captures.NOW)
        except (Rejected, Invalid):
            continue
        # The name of the program that signed is not signed.
        assert agent - 20 < position < agent + 40


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@BOTH
def test_bytes_of_any_kind_are_refused_and_nothing_else_happens(form: Form) -> None:
    of, signer, chance = Signed(), build(CA), random.Random(7)  # noqa: S311 - the same bytes each time
    [envelope] = [blob for blob in Signed(form=form).registry.blobs.values() if len(blob) > 500]
    good = signer.check(*evidence(form, envelope, of), NOW)
    for _ in range(300):
        content = bytearray(envelope)
        for _ in range(chance.randrange(1, 20)):
            at = chance.randrange(len(content))
            content[at : at + chance.randrange(4)] = chance.randbytes(chance.randrange(4))
        untrusted, claim = evidence(form, bytes(content), of)
        try:
            proof = signer.check(untrusted, claim, NOW)
        except (Rejected, Invalid):
            continue
        assert proof == good


@pytest.mark.parametrize("form", ["jws", "cose"])
def test_a_form_is_never_read_as_the_other(form: Form) -> None:
    [jose] = [blob for blob in Signed().registry.blobs.values() if blob[:2] == b'{"' and b"x5c" in blob]
    [binary] = [blob for blob in Signed(form="cose").registry.blobs.values() if blob[:1] == b"\xd2"]
    with pytest.raises(Invalid):
        jws_reader.read(binary) if form == "jws" else cose_reader.read(jose)
