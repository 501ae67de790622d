"""The real `notation`, where it is installed: what it signs now is accepted, and what it says of broken signatures is compared.

Everything lies in folders of the test and is served on loopback. The real tool asks the real clock, so this file does too.
"""

import asyncio
import base64
import datetime as dt
import functools
import json
import os
import random
import shutil
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.ocsp import OCSPCertStatus
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.fake.http_registry import serving
from tests.fake.notation import (
    AUTHENTIC_TIME,
    EXPIRY,
    LEAF,
    SCHEME,
    SIGNING_TIME,
    Entry,
    Form,
    Party,
    authority,
    key_usage,
    list_at,
    ocsp_answer,
    party,
    responder_at,
    revocation_list,
    sign_notation,
    stamped_by,
    subject,
    with_sha1,
)
from tests.fake.pki import TIME_STAMPING
from tests.fake.pushable import PushableRegistry
from tests.fake.registry import FakeRegistry
from tests.formats.test_contract import claim_of
from tests.formats.test_notation import judged
from tests.policies import HOME
from webhook.cli import importing
from webhook.formats import FORMATS
from webhook.formats.notation.signer import Notation
from webhook.keys.files import load_files
from webhook.parsing import Invalid, convert_all
from webhook.trust import Unresolved

NOTATION = shutil.which("notation")
pytestmark = pytest.mark.skipif(NOTATION is None, reason="LIVE TESTS LEFT OUT: no `notation` on the PATH")

HOUR = dt.timedelta(hours=1)
FORMS: tuple[Form, ...] = ("jws", "cose")
PATH = "shop/app"


@functools.cache
def begin() -> dt.datetime:
    """When this run began, in whole seconds."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


@functools.cache
def pki() -> dict[str, Party]:
    """Certificates that are valid now, and some that are not."""
    when: dict[str, Any] = {"begins": begin() - 10 * HOUR, "ends": begin() + 10 * HOUR}
    root = authority("Live Root", **when)
    between = authority("Live Between", root, **when)
    clock = authority("Live Clock Root", **when)
    rsa_root = authority("Live RSA Root", key="RSA-2048", **when)
    constraints = x509.NameConstraints([x509.DNSName("x.test")], None)
    units = [*subject("Live Units", OU="a"), x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "b")]
    stamping = ((x509.BasicConstraints(ca=False, path_length=None), True), (key_usage("digital_signature"), True))
    purpose = (x509.ExtendedKeyUsage([TIME_STAMPING]), True)
    code = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    return {
        "root": root,
        "between": between,
        "signer": party("Live Signer", between, **when),
        "rsa": party("Live RSA", between, key="RSA-3072", **when),
        "p384": party("Live P-384", between, key="P-384", **when),
        "p521": party("Live P-521", between, key="P-521", **when),
        "nobody": party("Live Nobody", authority("Live Other", **when), **when),
        "alone": party("Live Alone", **when),
        "over": party("Live Over", between, begins=begin() - 9 * HOUR, ends=begin() - HOUR),
        "early": party("Live Early", between, begins=begin() + HOUR, ends=begin() + 9 * HOUR),
        "other name": party("Live Named", between, name=subject("Live Named", O="Other"), **when),
        "no usage": party("Live Usage", between, LEAF[:1], **when),
        "encipherment": party(
            "Live Both", between, (LEAF[0], (key_usage("digital_signature", "key_encipherment"), True)), **when
        ),
        "server": party(
            "Live Server",
            between,
            (*LEAF[:2], (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)),
            **when,
        ),
        "no purpose": party("Live Plain", between, LEAF[:2], **when),
        "two purposes": party(
            "Live Two",
            between,
            (*LEAF[:2], (x509.ExtendedKeyUsage([*code, x509.ObjectIdentifier("1.2.3.4")]), False)),
            **when,
        ),
        "long path": party(
            "Live Below",
            authority(
                "Live Lower",
                authority(
                    "Live Upper",
                    root,
                    extensions=(
                        (x509.BasicConstraints(ca=True, path_length=0), True),
                        (key_usage("key_cert_sign", "crl_sign"), True),
                    ),
                    **when,
                ),
                **when,
            ),
            **when,
        ),
        "two units": party("Live Units", between, name=x509.Name(units), **when),
        "rsa2048": party("Live RSA 2048", between, key="RSA-2048", **when),
        "rsa4096": party("Live RSA 4096", between, key="RSA-4096", **when),
        "rsa root": rsa_root,
        "sha1": with_sha1(party("Live SHA-1", rsa_root, **when)),
        "sha256": party("Live SHA-256", rsa_root, **when),
        "constrained": party("Live Constrained", between, more=((constraints, True),), **when),
        "loosely constrained": party("Live Constrained", between, more=((constraints, False),), **when),
        "clock": clock,
        "tsa": party("Live Clock", clock, (*stamping, purpose), **when),
    }


# ── the tool ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass
class Tool:
    """`notation` with a configuration of its own."""

    home: Path

    @property
    def trust_policy(self) -> Path:
        return self.home / "notation" / "trustpolicy.json"

    def trust(self, stores: dict[str, Party], **statement: Any) -> None:
        """One statement for everything, with these trust stores (`ca/acme`)."""
        folder = self.home / "notation" / "truststore" / "x509"
        shutil.rmtree(folder, ignore_errors=True)
        for name, one in stores.items():
            (folder / name).mkdir(parents=True)
            (folder / name / "one.pem").write_text(one.pem)
        whole = {
            "name": "live",
            "registryScopes": ["*"],
            "signatureVerification": {"level": "strict"},
            "trustStores": [name.replace("/", ":") for name in stores],
            "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Acme"],
            **statement,
        }
        self.trust_policy.parent.mkdir(parents=True, exist_ok=True)
        self.trust_policy.write_text(json.dumps({"version": "1.0", "trustPolicies": [whole]}))
        self.trust_policy.chmod(0o600)

    def ours(self) -> Notation:
        """The same trust policy, as we read it."""
        with importing.policy_files([], self.trust_policy, None, HOME) as files:
            [policy] = load_files(files).policies(FORMATS, HOME)
        [named] = policy.signers
        assert isinstance(named.signer, Notation), named.signer
        return named.signer

    async def run(self, *words: str) -> tuple[int, str]:
        """The exit code, and what it printed."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home)}
        process = await asyncio.create_subprocess_exec(
            str(NOTATION), *words, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, output.decode()


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    return Tool(tmp_path)


@pytest.fixture
async def http() -> AsyncIterator[PushableRegistry]:
    async with serving(PushableRegistry(FakeRegistry())) as served:
        assert isinstance(served, PushableRegistry)
        yield served


# ── what it signs now ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("referrers_api", [True, False])
@pytest.mark.parametrize("form", FORMS)
async def test_what_notation_signs_now_is_accepted(
    tool: Tool, http: PushableRegistry, form: Form, referrers_api: bool
) -> None:
    http.registry.referrers_api = referrers_api
    digest = http.registry.push_image(PATH, "v1")
    code, said = await tool.run("cert", "generate-test", "--default", "live")
    assert code == 0, said
    image = f"{http.host}/{PATH}@{digest}"
    options = ["--insecure-registry", "--signature-format", form, "--user-metadata", "team=blue", "--expiry", "1h"]
    if referrers_api:
        options.append("--force-referrers-tag=false")
    code, said = await tool.run("sign", *options, image)
    assert code == 0, said
    own = (tool.home / "notation" / "localkeys" / "live.crt").read_text()
    row = FORMATS["notation"]
    for annotations, accepted in (({"team": "blue"}, True), ({"team": "red"}, False)):
        spec = {
            "trustStores": [{"type": "ca", "certs": own}],
            "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Notary, CN=live"],
            "annotations": annotations,
        }
        read = convert_all(spec, row.spec, "spec")
        signer = row.build(read, {reference: reference.encode() for _, reference in row.keys(read)})
        assert isinstance(signer, Notation)
        proofs, reasons, causes = await judged(signer, claim_of(digest), http.registry, dt.datetime.now(dt.UTC))
        assert causes == []
        assert len(proofs) == int(accepted), reasons


# ── what it says of what is broken ───────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Layout:
    """One signature, and one thing about it that may be wrong."""

    name: str
    options: Callable[[], dict[str, Any]] = dict
    signer: str = "signer"
    statement: Callable[[], dict[str, Any]] = dict
    stores: tuple[tuple[str, str], ...] = (("ca/acme", "root"),)


def payload(**change: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"edit_payload": lambda document: document["targetArtifact"].update(change)}


def protected(**change: Any) -> Callable[[], dict[str, Any]]:
    named = {name.replace("__", "."): value for name, value in change.items()}
    return lambda: {"edit_protected": lambda header: header.update(named)}


def level(name: str, **override: str) -> Callable[[], dict[str, Any]]:
    verification: dict[str, Any] = {"level": name, **({"override": override} if override else {})}
    return lambda: {"signatureVerification": verification}


def chain_of(*names: str) -> Callable[[dict[Any, Any]], None]:
    """Puts other certificates into the envelope."""

    def put(header: dict[Any, Any]) -> None:
        ders = [pki()[name].der for name in names]
        if "x5c" in header:
            header["x5c"] = [base64.b64encode(one).decode() for one in ders]
        else:
            header[33] = ders

    return put


TSA = (("ca/acme", "root"), ("tsa/clock", "clock"))
LAYOUTS = [
    Layout("good"),
    Layout("RSA-3072", signer="rsa"),
    Layout("P-384", signer="p384"),
    Layout("P-521", signer="p521"),
    Layout("a lone certificate", signer="alone", stores=(("ca/acme", "alone"),)),
    Layout("an intermediate trusted", stores=(("ca/acme", "between"),)),
    Layout("the leaf trusted", stores=(("ca/acme", "signer"),)),
    Layout("another root", signer="nobody"),
    Layout("another root, audit", signer="nobody", statement=level("audit")),
    Layout("another name", signer="other name"),
    Layout("another name, anybody", signer="other name", statement=lambda: {"trustedIdentities": ["*"]}),
    Layout("over", signer="over"),
    Layout("over, permissive", signer="over", statement=level("permissive")),
    Layout("not yet valid", signer="early"),
    Layout("no key usage", signer="no usage"),
    Layout("key encipherment", signer="encipherment"),
    Layout("serverAuth", signer="server"),
    Layout("no purpose", signer="no purpose"),
    Layout("two purposes", signer="two purposes"),
    Layout("path length", signer="long path"),
    Layout("expires later", lambda: {"expiry": begin() + HOUR}),
    Layout("expired", lambda: {"expiry": begin() - 60 * HOUR / 60}),
    Layout("expired, logged", lambda: {"expiry": begin() - HOUR}, statement=level("strict", expiry="log")),
    Layout("another digest", payload(digest=f"sha256:{'0' * 64}")),
    Layout("another size", payload(size=7)),
    Layout("another media type", payload(mediaType="application/vnd.oci.image.index.v1+json")),
    Layout("unknown critical", protected(crit=[SCHEME, "x"], x="y")),
    Layout("nothing critical", protected(crit=[])),
    Layout("time critical", protected(crit=[SCHEME, SIGNING_TIME])),
    Layout("an extra header", protected(x="y")),
    Layout("another type", protected(cty="application/json")),
    Layout("another algorithm", protected(alg="ES384")),
    Layout("no algorithm", protected(alg="none")),
    Layout("unknown scheme", lambda: {"edit_protected": lambda header: header.update({SCHEME: "notary.x509.x"})}),
    Layout("both times", lambda: {"edit_protected": lambda header: header.update({AUTHENTIC_TIME: begin()})}),
    Layout("no signing time", lambda: {"edit_protected": lambda header: header.pop(SIGNING_TIME)}),
    Layout("expiry not critical", lambda: {"edit_protected": lambda header: header.update({EXPIRY: begin() + HOUR})}),
    Layout(
        "a plugin", lambda: {"edit_protected": lambda header: header.update({"io.cncf.notary.verificationPlugin": "x"})}
    ),
    Layout("signing authority in ca", lambda: {"scheme": "notary.x509.signingAuthority"}),
    Layout(
        "signing authority",
        lambda: {"scheme": "notary.x509.signingAuthority"},
        stores=(("signingAuthority/acme", "root"),),
    ),
    Layout("ca in signing authority", stores=(("signingAuthority/acme", "root"),)),
    Layout("stamped", lambda: {"stamp": stamped_by(pki()["tsa"], begin())}, stores=TSA),
    Layout(
        "stamped when valid, over now",
        lambda: {"stamp": stamped_by(pki()["tsa"], begin() - 2 * HOUR), "signed_at": begin() - 2 * HOUR},
        "over",
        stores=TSA,
    ),
    Layout("stamped when over", lambda: {"stamp": stamped_by(pki()["tsa"], begin())}, "over", stores=TSA),
    Layout("not stamped", stores=TSA),
    Layout(
        "not stamped, after expiry only",
        statement=lambda: {"signatureVerification": {"level": "strict", "verifyTimestamp": "afterCertExpiry"}},
        stores=TSA,
    ),
    Layout("stamped by nobody", lambda: {"stamp": lambda _: b"x"}, stores=TSA),
    Layout("stamped for another", lambda: {"stamp": lambda _: stamped_by(pki()["tsa"], begin())(b"x")}, stores=TSA),
    Layout(
        "stamped before the time it claims",
        lambda: {"stamp": stamped_by(pki()["tsa"], begin() - 2 * HOUR), "signed_at": begin() - HOUR / 2},
        stores=TSA,
    ),
    Layout("signed in time to come", lambda: {"signed_at": begin() + HOUR}),
    Layout("the root twice", lambda: {"edit_header": chain_of("signer", "between", "root", "root")}),
    Layout("without the root", lambda: {"edit_header": chain_of("signer", "between")}),
    Layout("out of order", lambda: {"edit_header": chain_of("signer", "root", "between")}),
    Layout("a stranger in the chain", lambda: {"edit_header": chain_of("signer", "between", "clock", "root")}),
    Layout("the leaf alone", lambda: {"edit_header": chain_of("signer")}),
    Layout("another leaf", lambda: {"edit_header": chain_of("p384", "between", "root")}),
    Layout("two units", signer="two units"),
    Layout("two units, anybody", signer="two units", statement=lambda: {"trustedIdentities": ["*"]}),
    Layout(
        "a longer name",
        statement=lambda: {"trustedIdentities": ["x509.subject: CN=Live Signer, O=Acme,ST=WA,C=US"]},
    ),
    Layout("a name in lower case", statement=lambda: {"trustedIdentities": ["x509.subject: C=us, ST=WA, O=Acme"]}),
    Layout("RSA-2048", signer="rsa2048"),
    Layout("RSA-4096", signer="rsa4096"),
    Layout("SHA-1", signer="sha1", stores=(("ca/acme", "rsa root"),)),
    Layout("SHA-256 below the same root", signer="sha256", stores=(("ca/acme", "rsa root"),)),
    Layout("a critical constraint", signer="constrained"),
    Layout("a constraint", signer="loosely constrained"),
    Layout("metadata", lambda: {"annotations": {"team": "blue"}}),
    Layout("an empty payload", lambda: {"signed": b"{}"}),
    Layout("a payload of no JSON", lambda: {"signed": b"x"}),
    Layout("a payload with more", lambda: {"edit_payload": lambda document: document.update(more=1)}),
    Layout("a swapped signature", lambda: {"key": pki()["nobody"].private}),
]

# Where we are stricter than the tool, with the reason. Nothing may ever stand here that we accept and it refuses.
STRICTER: dict[tuple[str, Form], str] = {
    # "Unknown critical attributes MUST cause signature verification to fail", and the tool lets them pass without a plugin.
    ("unknown critical", "jws"): "critical header x is not understood",
    ("unknown critical", "cose"): "critical header x is not understood",
    # The tool refuses these in JWS only.
    ("time critical", "cose"): "signingTime is not understood",
    # ADR 14: what says that it must be understood is not let pass.
    ("a critical constraint", "jws"): "has the critical extension 2.5.29.30",
    ("a critical constraint", "cose"): "has the critical extension 2.5.29.30",
    ("both times", "cose"): "has io.cncf.notary.signingTime and not io.cncf.notary.authenticSigningTime",
}


async def verdicts(tool: Tool, http: PushableRegistry, layout: Layout, form: Form) -> tuple[bool, str, bool, str]:
    """What the tool says, and what we say."""
    tool.trust({name: pki()[who] for name, who in layout.stores}, **layout.statement())
    digest = http.registry.push_image(PATH, "v1", f"{layout.name} {form}".encode())
    options = {"signed_at": begin() - HOUR / 2, **layout.options()}
    sign_notation(http.registry, PATH, digest, pki()[layout.signer], form, **options)
    code, said = await tool.run("verify", "--insecure-registry", f"{http.host}/{PATH}@{digest}")
    try:
        signer = tool.ours()
    except Invalid as e:
        return code == 0, said, False, str(e)
    proofs, reasons, causes = await judged(signer, claim_of(digest), http.registry, dt.datetime.now(dt.UTC))
    return code == 0, said, bool(proofs), "; ".join([*reasons, *causes])


async def test_every_layout_gets_the_tools_own_verdict(tool: Tool, http: PushableRegistry) -> None:
    differences = []
    counts = {True: 0, False: 0}
    for layout in LAYOUTS:
        for form in FORMS:
            theirs, said, ours, why = await verdicts(tool, http, layout, form)
            counts[theirs] += 1
            if theirs is not ours:
                known = STRICTER.get((layout.name, form)) if theirs else None
                if known is None or known not in why:
                    differences.append(f"{layout.name} ({form}): notation {theirs}, ours {ours}: {why}\n{said}")
    assert not differences, "\n".join(differences)
    assert min(counts.values()) > 20


@pytest.mark.filterwarnings("default:notation accepts", "ignore:Parsed a serial number")
@pytest.mark.parametrize("form", FORMS)
async def test_a_changed_byte_gets_the_tools_own_verdict(tool: Tool, http: PushableRegistry, form: Form) -> None:
    """Random places of a good envelope: whatever we accept, it accepts too."""
    tool.trust({"ca/acme": pki()["root"]})
    signer, chance = tool.ours(), random.Random(f"{form} 2026")  # noqa: S311 - the same places each time
    made = FakeRegistry()
    first = made.push_image(PATH, "v1", form.encode())
    sign_notation(made, PATH, first, pki()["signer"], form, signed_at=begin() - HOUR / 2)
    [envelope] = [blob for blob in made.blobs.values() if len(blob) > 900]
    differences, stricter = [], []
    for _ in range(25):
        at = chance.randrange(len(envelope))
        changed = envelope[:at] + bytes([envelope[at] ^ 1 << chance.randrange(8)]) + envelope[at + 1 :]
        http.registry.manifests.clear()
        digest = http.registry.push_image(PATH, "v1", form.encode())
        sign_notation(http.registry, PATH, digest, pki()["signer"], form, content=changed)
        code, said = await tool.run("verify", "--insecure-registry", f"{http.host}/{PATH}@{digest}")
        proofs, reasons, _ = await judged(signer, claim_of(digest), http.registry, dt.datetime.now(dt.UTC))
        if bool(proofs) and code != 0:
            differences.append(f"byte {at}: notation refuses, ours accepts\n{said}")
        if code == 0 and not proofs:
            stricter.append(f"byte {at}: {'; '.join(reasons)}")
    assert not differences, "\n".join(differences)
    # Of what is not signed we read more strictly; that is said, not hidden.
    if stricter:
        warnings.warn(f"notation accepts, ours refuses: {stricter}", stacklevel=1)


CRL, OCSP = "/issuer.crl", "/ocsp"
AnswersOf = Callable[[Party], dict[str, bytes]]


def _until() -> dict[str, Any]:
    return {"begins": begin() - HOUR, "ends": begin() + HOUR}


def _over() -> dict[str, Any]:
    return {"begins": begin() - 2 * HOUR, "ends": begin() - HOUR}


REVOCATION: dict[str, AnswersOf] = {
    "nothing": lambda _: {},
    "good": lambda one: {OCSP: ocsp_answer(one, **_until())},
    "revoked": lambda one: {OCSP: ocsp_answer(one, revoked=True, **_until())},
    "unknown": lambda one: {OCSP: ocsp_answer(one, status=OCSPCertStatus.UNKNOWN, **_until())},
    "over": lambda one: {OCSP: ocsp_answer(one, **_over())},
    "by another": lambda one: {OCSP: ocsp_answer(one, by=pki()["nobody"], **_until())},
    "garbage": lambda _: {OCSP: b"garbage"},
    "not listed": lambda _: {CRL: revocation_list(pki()["between"], **_until())},
    "listed": lambda one: {CRL: revocation_list(pki()["between"], Entry(one), **_until())},
    "on hold": lambda one: {
        CRL: revocation_list(pki()["between"], Entry(one, x509.ReasonFlags.certificate_hold), **_until())
    },
    "list over": lambda _: {CRL: revocation_list(pki()["between"], **_over())},
    "list by another": lambda _: {CRL: revocation_list(pki()["root"], **_until())},
    "unknown, not listed": lambda one: {
        OCSP: ocsp_answer(one, status=OCSPCertStatus.UNKNOWN, **_until()),
        CRL: revocation_list(pki()["between"], **_until()),
    },
    "garbage, not listed": lambda _: {OCSP: b"garbage", CRL: revocation_list(pki()["between"], **_until())},
    "garbage, listed": lambda one: {OCSP: b"garbage", CRL: revocation_list(pki()["between"], Entry(one), **_until())},
    "good, listed": lambda one: {
        OCSP: ocsp_answer(one, **_until()),
        CRL: revocation_list(pki()["between"], Entry(one), **_until()),
    },
    "revoked, not listed": lambda one: {
        OCSP: ocsp_answer(one, revoked=True, **_until()),
        CRL: revocation_list(pki()["between"], **_until()),
    },
}


async def test_n08_what_issuers_say_gets_the_tools_own_verdict(tool: Tool, http: PushableRegistry) -> None:
    tool.trust({"ca/acme": pki()["root"]})
    urls = {path: f"http://{http.host}{path}" for path in (OCSP, CRL)}
    differences, accepted = [], 0
    for name, answers_of in REVOCATION.items():
        more = (responder_at(urls[OCSP]), list_at([urls[CRL]]))
        signer = party(f"Live {name}", pki()["between"], more=more, begins=begin() - HOUR, ends=begin() + HOUR)
        answers = answers_of(signer)
        http.issuers = answers
        http.registry.documents = {
            urls[path]: _always(answer) if path == OCSP else answer for path, answer in answers.items()
        }
        digest = http.registry.push_image(PATH, "v1", name.encode())
        sign_notation(http.registry, PATH, digest, signer, signed_at=begin() - HOUR / 2)
        # The tool keeps lists on the disk, which ours are to be compared with afresh each time.
        shutil.rmtree(tool.home / ".cache", ignore_errors=True)
        code, said = await tool.run("verify", "--insecure-registry", f"{http.host}/{PATH}@{digest}")
        proofs, reasons, causes = await judged(tool.ours(), claim_of(digest), http.registry, dt.datetime.now(dt.UTC))
        accepted += code == 0
        if (code == 0) is not bool(proofs):
            differences.append(f"{name}: notation {code == 0}, ours {bool(proofs)}: {reasons}{causes}\n{said}")
    assert not differences, "\n".join(differences)
    assert 3 < accepted < len(REVOCATION) - 3


def _always(answer: bytes) -> Callable[[bytes], bytes]:
    return lambda _: answer


def test_the_trust_policy_of_the_tool_is_read_by_ours(tool: Tool) -> None:
    tool.trust({"ca/acme": pki()["root"]})
    assert not isinstance(tool.ours(), Unresolved)
    tool.trust_policy.write_text("{}")
    with pytest.raises(Invalid, match="version: required"):
        tool.ours()
