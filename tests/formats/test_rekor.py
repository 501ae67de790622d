"""Log entries and checkpoints: the arithmetic, and what a body has to say (attacks C-01, C-13)."""

import contextlib
import copy
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fake import sigstore
from tests.fake.pki import NOW
from tests.fake.signing import key
from tests.fake.sigstore import Json, Made, TransparencyLog, b64, canonical, inclusion_path, sha256, tree_hash
from webhook import limits
from webhook.formats._keys import PublicKey
from webhook.formats._logs import Log, Window
from webhook.formats._merkle import InclusionProof, root_of
from webhook.formats._rekor import read_annotation, read_entry, verify_entry
from webhook.formats._rekorbody import Signed, require_about
from webhook.parsing import Invalid
from webhook.trust import Rejected

MADE = Made(b"message", b"payload", key("rekor-signer").sign(b"message"), key("rekor-signer").pem)
SIGNED = Signed(MADE.message, MADE.signature, PublicKey(key("rekor-signer").spki), payload=MADE.payload)


def trusted(log: TransparencyLog) -> Log:
    return Log(log.identity, PublicKey(log.key.spki), Window(), log.identity)


@given(st.integers(min_value=1, max_value=70), st.data())
@settings(max_examples=150, deadline=None)
def test_a_leaf_is_in_the_tree_at_its_place_and_at_no_other(size: int, data: st.DataObject) -> None:
    leaves = [sha256(bytes([i])) for i in range(size)]
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    path = inclusion_path(index, leaves)
    assert root_of(leaves[index], index, size, path) == tree_hash(leaves)
    elsewhere = data.draw(st.integers(min_value=0, max_value=size))
    with contextlib.suppress(Rejected):
        assert elsewhere == index or root_of(leaves[index], elsewhere, size, path) != tree_hash(leaves)


def test_a_tree_of_one_leaf_has_no_path() -> None:
    leaf = sha256(b"x")
    assert root_of(leaf, 0, 1, []) == leaf
    with pytest.raises(Rejected, match="too long"):
        root_of(leaf, 0, 1, [leaf])
    for index, size in ((1, 1), (-1, 1), (0, 0)):
        with pytest.raises(Rejected, match="outside of the tree"):
            root_of(leaf, index, size, [])
    with pytest.raises(Rejected, match="too short"):
        root_of(leaf, 0, 2, [])
    with pytest.raises(Rejected, match="more than 64 hashes"):
        root_of(leaf, 0, 2**63, [leaf] * (limits.MAX_INCLUSION_HASHES + 1))


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────────────────────────────
def proven(log: TransparencyLog, body: bytes, checkpoint: Callable[[str], str] = lambda text: text) -> InclusionProof:
    index = log.append(body)
    leaves = log.leaves
    hashes = tuple(inclusion_path(index, leaves))
    return InclusionProof(index, len(leaves), tree_hash(leaves), hashes, checkpoint(log.checkpoint()))


@pytest.mark.parametrize("make", [TransparencyLog, TransparencyLog.ed25519], ids=["ecdsa", "ed25519"])
def test_a_checkpoint_of_each_kind_of_key(make: Callable[[], TransparencyLog]) -> None:
    log = make()
    for _ in range(3):
        log.append(b"filler")
    proven(log, b"body").verify(b"body", trusted(log))
    with pytest.raises(Rejected, match="leads to another root"):
        proven(log, b"body").verify(b"another", trusted(log))
    stranger = Log(log.identity, PublicKey(key("stranger").spki), Window(), log.identity)
    with pytest.raises(Rejected, match="checkpoint: not signed by the log"):
        proven(log, b"body").verify(b"body", stranger)


def test_the_hint_of_a_checkpoint_is_the_one_that_the_trust_root_names() -> None:
    log = TransparencyLog()
    named = Log(log.identity, PublicKey(log.key.spki), Window(), b"none" * 8)
    with pytest.raises(Rejected, match="the checkpoint is not signed by the log"):
        proven(log, b"body").verify(b"body", named)


def test_witnesses_that_sign_too_are_passed_over() -> None:
    log = TransparencyLog()
    witness = f"\N{EM DASH} witness.test {b64(b'hint' + b'signature')}\n"

    def before(text: str) -> str:
        note, line = text.split("\n\n")
        return f"{note}\n\n{witness}{line}"

    for place in (before, lambda text: text + witness):
        proven(log, b"body", place).verify(b"body", trusted(log))


@pytest.mark.parametrize(
    ("edit", "error", "reason"),
    [
        (lambda t: t.replace("\n\n", "\n"), Invalid, "not a signed note"),
        (lambda t: t[:-1], Invalid, "not a signed note"),
        (lambda t: "\n" + t.partition("\n")[2], Invalid, "not a signed note"),
        (lambda _: "", Invalid, "not a signed note"),
        (lambda t: t.replace("\n1\n", "\n01\n"), Invalid, "second line is not the size"),
        (lambda t: t.replace("\n1\n", "\n2\n"), Rejected, "about another tree"),
        (lambda t: t.replace("\n1\n", "\n\u0661\n"), Invalid, "second line is not the size"),
        (lambda t: t.replace("rekor.test - 1\n1", "else.test - 1\n1"), Rejected, "checkpoint: not signed by the log"),
        (lambda t: t.replace("\N{EM DASH}", "-"), Invalid, "a line that is no signature"),
        (lambda t: t[:-2] + "\n", Invalid, "not base64"),
        (lambda t: t.replace("\n\n", "\n\ud800\n\n"), Invalid, "characters that UTF-8 has no bytes for"),
        (lambda t: "x" * limits.MAX_CHECKPOINT + t, Invalid, "more than 65536 characters"),
        (lambda t: t.replace("\n\n", "\nanother line\n\n"), Rejected, "checkpoint: not signed by the log"),
    ],
)
def test_a_checkpoint_that_is_none(edit: Callable[[str], str], error: type[Exception], reason: str) -> None:
    log = TransparencyLog()
    with pytest.raises(error, match=reason):
        proven(log, b"body", edit).verify(b"body", trusted(log))


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────
BODIES = [sigstore.hashedrekord, sigstore.hashedrekord_v2, sigstore.dsse, sigstore.dsse_v2, sigstore.intoto]


def about(document: Any, signed: Signed = SIGNED) -> None:
    require_about(canonical(document), None, signed)


@pytest.mark.parametrize("body", BODIES)
def test_a_body_of_each_kind(body: Callable[[Made], Json]) -> None:
    about(body(MADE))


@pytest.mark.parametrize("name", ["sha384", "sha512"])
def test_hashes_of_longer_keys(name: str) -> None:
    document = sigstore.hashedrekord(MADE)
    value = hashlib.new(name, MADE.message).hexdigest()
    document["spec"]["data"]["hash"] = {"algorithm": name, "value": value}
    about(document)
    newer = sigstore.hashedrekord_v2(MADE)
    data = newer["spec"]["hashedRekordV002"]["data"]
    data.update(algorithm=f"SHA2_{name[3:]}", digest=b64(bytes.fromhex(value)))
    about(newer)


def first(document: Json, *path: str | int) -> Any:
    found: Any = document
    for step in path:
        found = found[step]
    return found


@pytest.mark.parametrize(
    ("body", "edit", "reason"),
    [
        (sigstore.dsse, lambda d: d.update(apiVersion="0.0.9"), "dsse 0.0.9 is not supported"),
        (sigstore.intoto, lambda d: d.update(apiVersion="0.0.1"), "intoto 0.0.1 is not supported"),
        (sigstore.dsse, lambda d: d.update(kind="rekord"), "rekord 0.0.1 is not supported"),
        (sigstore.hashedrekord, lambda d: d["spec"]["data"]["hash"].update(algorithm="sha1"), "the hash sha1 is not"),
        (sigstore.hashedrekord, lambda d: d["spec"]["data"]["hash"].update(algorithm="md5"), "the hash md5 is not"),
        (sigstore.hashedrekord, lambda d: d["spec"]["data"]["hash"].update(value="zz"), "not hex digits"),
        (sigstore.hashedrekord, lambda d: d["spec"]["data"]["hash"].update(value="AB"), "not lower-case hex digits"),
        (sigstore.dsse, lambda d: d["spec"].update(signatures=[]), "of 0 signatures, expected exactly one"),
        (sigstore.dsse, lambda d: d["spec"].update(signatures=d["spec"]["signatures"] * 2), "of 2 signatures"),
        (sigstore.dsse_v2, lambda d: d["spec"]["dsseV002"].update(signatures=[]), "of 0 signatures"),
        (
            sigstore.intoto,
            lambda d: d["spec"]["content"]["envelope"].update(signatures=[]),
            "of 0 signatures",
        ),
        (
            sigstore.intoto,
            lambda d: first(d, "spec", "content", "envelope", "signatures", 0).update(sig=b64(MADE.signature)),
            "not base64",
        ),
        (
            sigstore.dsse,
            lambda d: d["spec"]["signatures"][0].update(verifier=b64(b"no PEM")),
            "not the PEM of one certificate or public key",
        ),
        (
            sigstore.dsse,
            lambda d: d["spec"]["signatures"][0].update(verifier=b64(MADE.verifier.encode() * 2)),
            "not the PEM of one certificate or public key",
        ),
        (
            sigstore.hashedrekord_v2,
            lambda d: d["spec"]["hashedRekordV002"]["signature"].update(verifier={}),
            "neither of a key nor of a certificate",
        ),
        (
            sigstore.hashedrekord_v2,
            lambda d: first(d, "spec", "hashedRekordV002", "signature", "verifier").update(
                x509Certificate={"rawBytes": "AAAA"}
            ),
            "neither of a key nor of a certificate",
        ),
        (
            sigstore.hashedrekord_v2,
            lambda d: first(d, "spec", "hashedRekordV002", "signature").update(
                verifier={"x509Certificate": {"rawBytes": "AAAA"}}
            ),
            "of another signer",
        ),
    ],
)
def test_a_body_that_is_none(body: Callable[[Made], Json], edit: Callable[[Json], object], reason: str) -> None:
    document = copy.deepcopy(body(MADE))
    edit(document)
    with pytest.raises((Rejected, Invalid), match=reason):
        about(document)


@pytest.mark.parametrize("body", [sigstore.dsse, sigstore.dsse_v2, sigstore.intoto])
def test_an_entry_of_an_envelope_is_none_of_a_bare_payload(body: Callable[[Made], Json]) -> None:
    bare = Signed(SIGNED.message, SIGNED.signature, SIGNED.key)
    with pytest.raises(Rejected, match="of an envelope, and this is none"):
        about(body(MADE), bare)


def test_a_certificate_is_not_its_key() -> None:
    certified = Signed(SIGNED.message, SIGNED.signature, SIGNED.key, b"the certificate", SIGNED.payload)
    for body in BODIES:
        with pytest.raises(Rejected, match="of another signer"):
            about(body(MADE), certified)


# ── entries ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_numbers_may_be_left_out_where_they_are_zero() -> None:
    log = TransparencyLog()
    entry = log.entry(sigstore.hashedrekord(MADE), NOW)
    assert entry["logIndex"] == "0"
    del entry["logIndex"], entry["inclusionProof"]["logIndex"], entry["inclusionProof"]["hashes"]
    found = verify_entry(read_entry(entry, "entry", "proof"), [trusted(log)], SIGNED)
    assert found is not None
    assert (found.index, found.at) == (0, NOW)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda a: a["Payload"].update(logID="AB" * 32), "logID: not 64 lower-case hex digits"),
        (lambda a: a["Payload"].update(logID="ab"), "logID: not 64 lower-case hex digits"),
        (lambda a: a["Payload"].update(logIndex="1"), "logIndex: expected int, got str"),
        (lambda a: a["Payload"].update(integratedTime=True), "integratedTime: expected int, got bool"),
        (lambda a: a.update(SignedEntryTimestamp=""), "SignedEntryTimestamp: empty"),
        (lambda a: a.pop("Payload"), "missing required field Payload"),
    ],
)
def test_an_annotation_that_is_none(edit: Callable[[Json], object], reason: str) -> None:
    annotation = TransparencyLog().annotation(sigstore.hashedrekord(MADE), NOW)
    edit(annotation)
    with pytest.raises(Invalid, match=reason):
        read_annotation(canonical(annotation), "annotation")


def test_windows_are_inclusive_and_may_be_open() -> None:
    assert Window().includes(NOW)
    assert Window(NOW, NOW).includes(NOW)
