"""Sigstore's trust root: read strictly, grown out of without harm (attack C-13)."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fake.pki import NOW, issue
from tests.fake.sigstore import Json, Sigstore, b64
from webhook import limits
from webhook.formats._trustroot import TrustRoot, parse_trust_root
from webhook.parsing import Invalid
from webhook.trust import Rejected

ROOT = json.loads(Sigstore().trusted_root())
SECP256K1 = bytes.fromhex(
    "3056301006072a8648ce3d020106052b8104000a034200"
    "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
)


def read(edit: Callable[[Json], object] = lambda _: None) -> TrustRoot:
    document = copy.deepcopy(ROOT)
    edit(document)
    return parse_trust_root(json.dumps(document).encode(), "root")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda r: r.update(mediaType="x"), "root.mediaType: not that of a trust root whose version is known"),
        (lambda r: r.pop("mediaType"), "root: object missing required field mediaType"),
        (lambda r: r.update(tlogs=None), "root.tlogs: expected array, got null"),
        (lambda r: r.update(tlogs=r["tlogs"] * 17), "root: more than 32 tlogs"),
        (lambda r: r.update(certificateAuthorities=r["certificateAuthorities"] * 33), "more than 32 certificate"),
        (lambda r: r["tlogs"][0]["publicKey"].update(rawBytes="x"), "root.tlogs[0].publicKey.rawBytes: not base64"),
        (lambda r: r["tlogs"][0]["publicKey"].update(rawBytes="AAAA"), "rawBytes: not a public key that can be read"),
        (
            lambda r: r["tlogs"][0]["publicKey"].update(rawBytes=b64(SECP256K1)),
            "root.tlogs[0].publicKey.rawBytes: curve secp256k1; accepted",
        ),
        (lambda r: r["tlogs"][0]["logId"].update(keyId=""), "root.tlogs[0].logId.keyId: empty"),
        (
            lambda r: r["tlogs"][0].update(checkpointKeyId={"keyId": "x"}),
            "root.tlogs[0].checkpointKeyId.keyId: not base64",
        ),
        (
            lambda r: r["ctlogs"][0]["publicKey"]["validFor"].update(start="yesterday"),
            "validFor.start: invalid RFC3339",
        ),
        (lambda r: r["ctlogs"][0]["publicKey"]["validFor"].update(start="2026-01-01T00:00:00"), "validFor.start: "),
        (
            lambda r: r["ctlogs"][0]["publicKey"]["validFor"].update(start="0001-01-01T00:00:00+10:00"),
            "root.ctlogs[0].publicKey.validFor: a time beyond all calendars",
        ),
        (
            lambda r: r["certificateAuthorities"][0]["certChain"].update(certificates=[]),
            "root.certificateAuthorities[0].certChain: 0 certificates, expected 1 to 11",
        ),
        (
            lambda r: r["certificateAuthorities"][0]["certChain"]["certificates"].__imul__(6),
            "certChain: 12 certificates, expected 1 to 11",
        ),
        (
            lambda r: r["certificateAuthorities"][0]["certChain"]["certificates"][1].update(rawBytes="AAAA"),
            "root.certificateAuthorities[0].certChain.certificates[1].rawBytes: not a certificate that can be read",
        ),
        (
            lambda r: r["timestampAuthorities"][0]["certChain"]["certificates"].pop(),
            "root.timestampAuthorities[0].certChain: a timestamp authority's own certificate and its root are wanted",
        ),
    ],
)
def test_a_trust_root_that_is_none(edit: Callable[[Json], object], reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        read(edit)
    assert reason in str(refused.value)


def test_bytes_that_are_no_trust_root() -> None:
    for content in (b"", b"[]", b"null", b"{", b"\xff", b'{"mediaType":1}'):
        with pytest.raises(Invalid, match="root"):
            parse_trust_root(content, "root")
    with pytest.raises(Invalid, match="root: more than 1048576 bytes"):
        parse_trust_root(b" " * (limits.MAX_KEY_MATERIAL + 1), "root")


@pytest.mark.parametrize(
    "content",
    [
        '{"CANARY": 1, "CANARY": 2}',
        '"CANARY"',
        "CANARY",
        '{"mediaType": "CANARY"}',
        '{"mediaType": "CANARY", "tlogs": "CANARY"}',
        '{"CANARY": 1}',
    ],
)
def test_m08_nothing_of_a_secret_is_repeated(content: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_trust_root(content.encode(), "root")
    assert "CANARY" not in str(refused.value)


def test_what_is_newer_than_we_are_is_left_out() -> None:
    def newer(root: Json) -> None:
        root["surprise"] = 1
        root["tlogs"].append({**root["tlogs"][0], "publicKey": {"rawBytes": "?", "keyDetails": "ML_DSA_65"}})

    assert len(read(newer).logs) == 2


def test_checkpoints_may_name_a_log_otherwise() -> None:
    def named(root: Json) -> None:
        root["tlogs"][0]["checkpointKeyId"] = {"keyId": b64(b"another")}

    first, second = read(named).logs
    assert first.note_identity == b"another"
    assert second.note_identity == second.identity


def test_what_has_no_window_is_always_in_force() -> None:
    def timeless(root: Json) -> None:
        for one in [*root["tlogs"], *root["ctlogs"]]:
            del one["publicKey"]["validFor"]
        del root["certificateAuthorities"][0]["validFor"]

    root = read(timeless)
    windows = [one.window for one in (*root.logs, *root.certificate_logs)] + [one.window for one in root.authorities]
    assert all(window.includes(NOW) for window in windows)


def test_equal_bytes_are_one_root() -> None:
    assert read() == read()
    assert hash(read()) == hash(read())
    assert read() != read(lambda r: r.update(ctlogs=[]))


def test_no_authority_and_no_moment_prove_nothing() -> None:
    leaf: Any = None
    with pytest.raises(Rejected, match="nothing that is trusted says when it was signed"):
        read().chain(leaf, ())
    with pytest.raises(Rejected, match="the trust root has no certificate authority"):
        read(lambda r: r.update(certificateAuthorities=[])).chain(leaf, (NOW,))


def test_an_authority_whose_key_no_signer_may_have_has_no_fingerprint() -> None:
    odd = issue("odd root", ca=True, key=ec.generate_private_key(ec.SECP256K1()))

    def with_odd(root: Json) -> None:
        root["certificateAuthorities"].append({"certChain": {"certificates": [{"rawBytes": b64(odd.der)}]}})

    assert len(read(with_odd).authorities) == 2
    assert read(with_odd).anchors == read().anchors
