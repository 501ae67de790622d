"""A private sigstore on a cluster: its root in a ConfigMap, images signed and attested by the real cosign, who counts and who does not.

Fulcio, certificate log, both Rekors and timestamp authority are those of `tests/fake`, on this machine, for cosign to sign with. The cluster
asks none of them: it knows their root, and everything else lies beside the images.
"""

import contextlib
import datetime as dt
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.laboratory import Lab, resource
from tests.e2e.test_faults import each_replica, takes_effect
from tests.e2e.test_story import in_force, pod, refused
from tests.e2e.tools import Failed, run, until
from tests.fake.sigstore_cosign import ISSUER, signing_config, sigstore_of_today, trusted_root, write_keys
from tests.fake.sigstore_http import serving, token
from tests.test_docs import blocks
from webhook import limits

CI = "ci@acme.test"
GITHUB = "https://token.actions.githubusercontent.com"
RECENT = 'timestamp(predicate.metadata.scanFinishedOn) > now - duration("24h")'


@dataclass
class Instance:
    """One sigstore, as cosign is told of it. `env` is the laboratory's."""

    folder: Path
    url: str
    env: dict[str, str]

    @property
    def root(self) -> str:
        """Its `trusted_root.json`."""
        return (self.folder / "trusted_root.json").read_text()

    def sign(
        self,
        image: str,
        subject: str = CI,
        *,
        issuer: str = ISSUER,
        rekor: int | None = 1,
        stamped: bool = False,
        claims: Mapping[str, str] | None = None,
    ) -> None:
        """Signs for whomever the token names."""
        who = token(issuer, **claims) if claims else token(issuer, subject)
        self._cosign("sign", "--yes", "--identity-token", who, *self._services(rekor, stamped), image)

    def attest(self, image: str, predicate: object, subject: str = CI, kind: str = "vuln") -> None:
        """States something about the image."""
        file = self.folder / "predicate.json"
        file.write_text(json.dumps(predicate))
        words = ("--yes", "--type", kind, "--predicate", str(file), "--identity-token", token(ISSUER, subject))
        self._cosign("attest", *words, *self._services(1, stamped=False), image)

    def _services(self, rekor: int | None, stamped: bool) -> tuple[str, ...]:
        file = self.folder / f"config-{rekor}-{stamped}.json"
        if not file.exists():
            self._cosign(*signing_config(self.url, file, rekor=rekor, stamped=stamped))
        root = self.folder / "trusted_root.json"
        return ("--signing-config", str(file), "--trusted-root", str(root), "--allow-http-registry")

    def _cosign(self, *words: str) -> None:
        run("cosign", *words, env=self.env)


@contextlib.contextmanager
def instance(lab: Lab, name: str, now: Callable[[], dt.datetime] | None = None) -> Iterator[Instance]:
    """A sigstore with keys of its own, while it is served. `now`: what its services take for the time."""
    folder = lab.folder / f"sigstore-{name}"
    folder.mkdir()
    services = sigstore_of_today(name)
    write_keys(services, folder)
    with serving(services, **({"now": now} if now else {})) as (url, _):
        run("cosign", *trusted_root(services, folder, url), env=lab.env)
        yield Instance(folder, url, lab.env)


@pytest.fixture(scope="module")
def ours(lab: Lab) -> Iterator[Instance]:
    """The one that policies trust."""
    with instance(lab, "ours") as made:
        yield made


@pytest.fixture(scope="module")
def signed(lab: Lab, ours: Instance) -> str:
    """An image signed by CI."""
    image = lab.push(lab.public, "sigstore/signed:v1")
    ours.sign(image)
    return image


def put_root(lab: Lab, namespace: str, root: str) -> None:
    """What the policies of a namespace look their roots up in."""
    metadata = {"name": "sigstore", "namespace": namespace}
    data = {"trusted_root.json": root}
    lab.cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def policy(
    lab: Lab,
    namespace: str,
    keyless: Mapping[str, Any] | None = None,
    cosign: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    by = {
        "keyless": keyless or {"issuer": ISSUER, "subject": CI},
        "trustRoot": "configmap://sigstore#trusted_root.json",
        **(cosign or {}),
    }
    whole = {"images": [f"{lab.public.host}/sigstore/**"], "signers": [{"name": "ci", "cosign": by}], **spec}
    return resource("TrustPolicy", "keyless", namespace, whole)


@pytest.fixture
def trusting(lab: Lab, namespace: str, ours: Instance) -> str:
    """A namespace in which CI has to have signed, in force."""
    put_root(lab, namespace, ours.root)
    lab.cluster.apply(policy(lab, namespace))
    in_force(lab, "tp", "keyless", namespace)
    return namespace


def scan(at: dt.datetime) -> dict[str, Any]:
    """A vulnerability report that was finished at this time."""
    scanner = {
        "uri": "pkg:github/acme/scanner@1.0.0",
        "version": "1.0.0",
        "db": {"uri": "", "version": ""},
        "result": {},
    }
    moment = at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "invocation": {"uri": "", "event_id": "", "builder.id": "", "parameters": []},
        "scanner": scanner,
        "metadata": {"scanStartedOn": moment, "scanFinishedOn": moment},
    }


def told(lab: Lab, image: str, namespace: str, *texts: str) -> None:
    """Waits until the denial says all of this: a changed policy counts soon, and a denial is kept for a while."""

    def ask() -> bool:
        said = refused(lab, pod(image), namespace)
        assert all(text in said for text in texts), said
        return True

    until(ask, " and ".join(texts), 40)


def admitted(lab: Lab, image: str, namespace: str) -> None:
    until(lambda: lab.cluster.try_out(pod(image), namespace), f"{image} admitted", 40)


def test_a_deployment_that_ci_signed_without_a_key_runs(lab: Lab, trusting: str, signed: str) -> None:
    lab.cluster.kubectl("create", "deployment", "web", f"--image={signed}", "-n", trusting)
    lab.cluster.kubectl("rollout", "status", "deployment/web", "-n", trusting, "--timeout=90s")


def test_p03_another_identity_is_refused_and_told(lab: Lab, trusting: str, ours: Instance, signed: str) -> None:
    lab.cluster.try_out(pod(signed), trusting)
    for name, subject, issuer in (("stranger", "mallory@acme.test", ISSUER), ("elsewhere", CI, "https://evil.test")):
        image = lab.push(lab.public, f"sigstore/{name}:v1")
        ours.sign(image, subject, issuer=issuer)
        text = refused(lab, pod(image), trusting)
        assert f'policy {trusting}/keyless: no signature by "ci"' in text
        assert subject in text
        assert issuer in text
    unsigned = lab.push(lab.public, "sigstore/unsigned:v1")
    assert "it carries no signature" in refused(lab, pod(unsigned), trusting)


@pytest.mark.parametrize(
    ("name", "signed_with", "cosign"),
    [
        ("rekor2", {"rekor": 2, "stamped": True}, {}),
        ("timestamp", {"rekor": None, "stamped": True}, {"tlog": "ignore", "timestamp": {"require": True}}),
    ],
)
def test_c17_the_other_witnesses_count_where_the_policy_takes_them(
    lab: Lab, trusting: str, ours: Instance, signed: str, name: str, signed_with: dict[str, Any], cosign: dict[str, Any]
) -> None:
    image = lab.push(lab.public, f"sigstore/{name}:v1")
    ours.sign(image, **signed_with)
    if cosign:
        assert 'no signature by "ci"' in refused(lab, pod(image), trusting)
        lab.cluster.apply(policy(lab, trusting, cosign=cosign))
        admitted(lab, image, trusting)
        # No timestamp, and its log entry is not looked at.
        assert 'no signature by "ci"' in refused(lab, pod(signed), trusting)
    else:
        lab.cluster.try_out(pod(image), trusting)


def test_p02_a_workflow_is_known_by_what_its_certificate_says(lab: Lab, trusting: str, ours: Instance) -> None:
    image = lab.push(lab.public, "sigstore/workflow:v1")
    built, ref = "https://github.com/acme/shop", "refs/tags/v1"
    sub = f"{built}/.github/workflows/release.yml@{ref}"
    claims = {"sub": sub, "repository_uri": built, "ref": ref, "trigger": "push", "runner": "github-hosted"}
    ours.sign(image, issuer=GITHUB, claims=claims)
    for repository, counts in (("acme/shop", True), ("acme/sho", False)):
        hub = {"github": {"repository": repository, "workflow": "release.yml", "ref": "refs/tags/v*"}}
        lab.cluster.apply(policy(lab, trusting, hub))
        if counts:
            admitted(lab, image, trusting)
        else:
            told(lab, image, trusting, 'no signature by "ci"', "acme/shop")


def test_attestations_are_demanded_and_what_they_state_counts(lab: Lab, trusting: str, ours: Instance) -> None:
    wanted: dict[str, Any] = {
        "attestations": [{"name": "scan", "type": "vuln", "where": RECENT}],
        "require": "ci and scan",
    }
    lab.cluster.apply(policy(lab, trusting, **wanted))
    images = {name: lab.push(lab.public, f"sigstore/scan-{name}:v1") for name in ("missing", "wrong", "old", "recent")}
    for image in images.values():
        ours.sign(image)
    now = dt.datetime.now(dt.UTC)
    # By somebody else, and of another type: neither is the report.
    ours.attest(images["wrong"], scan(now), "mallory@acme.test")
    ours.attest(images["wrong"], {"result": "PASSED"}, kind="https://in-toto.io/attestation/test-result/v0.1")
    for name in ("old", "recent"):
        ours.attest(images[name], scan(now - dt.timedelta(hours=25)))
    ours.attest(images["recent"], scan(now))
    admitted(lab, images["recent"], trusting)
    told(
        lab,
        images["missing"],
        trusting,
        f'policy {trusting}/keyless: no attestation by "scan"',
        f'with "scan" (vuln by {CI}',
    )
    told(lab, images["wrong"], trusting, 'no attestation by "scan"', "mallory@acme.test")
    told(lab, images["old"], trusting, 'no attestation by "scan" (`where` does not hold)')


def test_c08_a_report_that_was_signed_too_long_ago_is_refused(lab: Lab, trusting: str) -> None:
    wanted: dict[str, Any] = {"attestations": [{"name": "scan", "type": "vuln", "maxAge": "24h"}], "require": "scan"}
    days = dt.timedelta(days=2)
    # The clocks of all its services are two days behind: so cosign has signed two days ago.
    with (
        instance(lab, "past", lambda: dt.datetime.now(dt.UTC).replace(microsecond=0) - days) as past,
        instance(lab, "present") as present,
    ):
        put_root(lab, trusting, joined(past.root, present.root))
        lab.cluster.apply(policy(lab, trusting, **wanted))
        old, both = (lab.push(lab.public, f"sigstore/aged-{name}:v1") for name in ("old", "both"))
        for image in (old, both):
            past.attest(image, scan(dt.datetime.now(dt.UTC)))
        present.attest(both, scan(dt.datetime.now(dt.UTC)))
        admitted(lab, both, trusting)
        told(lab, old, trusting, 'no attestation by "scan" (the attestation is of ', "which is more than 24h ago")


def joined(*roots: str) -> str:
    """One trusted root of several instances."""
    read = [json.loads(root) for root in roots]
    lists = {name for one in read for name, value in one.items() if isinstance(value, list)}
    return json.dumps({**read[0], **{name: [each for one in read for each in one.get(name, [])] for name in lists}})


def test_m04_c22_a_changed_root_counts_on_every_replica_within_two_seconds(
    lab: Lab, trusting: str, ours: Instance, signed: str
) -> None:
    with instance(lab, "next") as following:
        new = lab.push(lab.public, "sigstore/new:v1")
        following.sign(new)
        with each_replica(lab) as ask:
            assert len(ask) == 3
            takes_effect(ask, signed, trusting, allowed=True)
            takes_effect(ask, new, trusting, allowed=False)
            for root, good, bad in ((following.root, new, signed), (ours.root, signed, new)):
                put_root(lab, trusting, root)
                assert takes_effect(ask, good, trusting, allowed=True) < 2.5
                takes_effect(ask, bad, trusting, allowed=False)
            # While the root changes hands both are trusted.
            put_root(lab, trusting, joined(ours.root, following.root))
            assert takes_effect(ask, new, trusting, allowed=True) < 2.5
            takes_effect(ask, signed, trusting, allowed=True)


def test_every_policy_of_the_pages_is_taken_by_the_api_server(lab: Lab, namespace: str) -> None:
    taken = [
        yaml.safe_load(text) for kind in ("kind: TrustPolicy", "kind: ClusterTrustPolicy") for _, text in blocks(kind)
    ]
    assert sum("attestations" in one["spec"] for one in taken) >= 6
    for number, one in enumerate(taken):
        one["metadata"]["name"] = f"{namespace}-{number}"
        if one["kind"] == "TrustPolicy":
            one["metadata"]["namespace"] = namespace
    lab.cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(taken))


def test_d01_d05_the_largest_policy_is_within_what_the_api_server_evaluates(lab: Lab, namespace: str) -> None:
    # Rules of the schema have a budget at run time, too, which grows with what they look at.
    condition = " || ".join(["predicate.a == 1"] * (limits.MAX_WHERE // len("predicate.a == 1 || ")))
    signers = [
        {"name": f"s{number}", "cosign": {"keyless": {"issuer": ISSUER, "subject": f"s{number}@acme.test"}}}
        for number in range(limits.MAX_SIGNERS)
    ]
    attestations = [
        {"name": f"a{number}", "type": "vuln", "signedBy": [one["name"] for one in signers], "where": condition}
        for number in range(limits.MAX_SIGNERS)
    ]
    whole = policy(lab, namespace, signers=signers, attestations=attestations)
    lab.cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(whole))
    attestations[-1] = {**attestations[-1], "where": "predicate.a =="}
    with pytest.raises(Failed, match=rf"spec\.attestations\[{limits.MAX_SIGNERS - 1}\]\.where: column 15"):
        lab.cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(whole))


def test_p09_c17_dangerous_policies_are_warned_about_or_refused_when_they_are_written(lab: Lab, namespace: str) -> None:
    def written(**changed: Any) -> str:
        return lab.cluster.warnings(
            "apply", "--dry-run=server", "-f", "-", stdin=json.dumps(policy(lab, namespace, **changed))
        )

    assert "Warning" not in written()
    assert 'signer "ci": keyless.subjectRegex .* fits anybody' in written(
        keyless={"issuer": ISSUER, "subjectRegex": ".*"}
    )
    assert "holds no text" in written(keyless={"issuer": ISSUER, "subjectRegex": "[a-z]+"})
    stamped = {"tlog": "ignore", "timestamp": {"require": True}}
    assert "Warning" not in written(cosign=stamped)
    for wrong, why in (
        (policy(lab, namespace, cosign={"tlog": "ignore"}), r"spec\.signers\[0\]\.cosign\.tlog: .*a log entry or a timestamp is needed"),
        (policy(lab, namespace, {"issuerRegex": ".*", "subject": CI}), r"keyless\.issuerRegex: it fits every issuer"),
        (policy(lab, namespace, {"issuer": ISSUER}), r"exactly one of subject and subjectRegex is wanted"),
        (policy(lab, namespace, {"issuer": ISSUER, "subjectRegex": "(a"}), r"keyless\.subjectRegex"),
    ):  # fmt: skip
        with pytest.raises(Failed, match=re.compile(why, re.DOTALL)):
            lab.cluster.apply(wrong)
