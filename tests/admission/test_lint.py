"""Writes of policies: refused with every complaint, admitted with warnings (attack M-10)."""

from pathlib import Path
from typing import Any

from tests.policies import KEY
from tests.serving import serving

API = "trusted-images.dev/v1alpha1"


def write(spec: Any, operation: str = "CREATE", kind: str = "TrustPolicy") -> dict[str, Any]:
    metadata = {"name": "web", **({"namespace": "shop"} if kind == "TrustPolicy" else {})}
    document = {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": "trusted-images.dev", "version": "v1alpha1", "kind": kind},
            "operation": operation,
            "namespace": "shop",
            "name": "web",
            "object": None if operation == "DELETE" or spec is None else document,
        },
    }


async def test_m10_a_wrong_policy_cannot_be_written(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:

        async def asked(document: Any) -> dict[str, Any]:
            status, answer = await webhook.post(document, "/validate-policies")
            assert status == 200
            found: dict[str, Any] = answer["response"]
            return found

        good = {"images": ["ghcr.io/**"], "signers": [{"name": "a", "cosign": {"key": KEY}}]}
        assert (await asked(write(good)))["allowed"]
        assert (await asked(write(good, "UPDATE")))["allowed"]
        assert (await asked(write(good, kind="ClusterTrustPolicy")))["allowed"]
        # A broken one can always be deleted.
        assert (await asked(write({"images": 1}, "DELETE")))["allowed"]

        bad = await asked(write({**good, "images": ["docker.io/*"], "require": "b", "typo": 1}))
        assert (bad["allowed"], bad["status"]["code"]) == (False, 422)
        assert bad["status"]["message"].startswith("spec.typo: unknown field; known: ")
        two = await asked(write({**good, "images": ["docker.io/*"], "require": "b"}))
        assert [line.split(": ")[0] for line in two["status"]["message"].splitlines()] == [
            "spec.require",
            "spec.images[0]",
        ]
        missing = await asked(write(None))
        assert (missing["allowed"], missing["status"]["message"]) == (False, "object: missing")

        # Whether a Secret exists is a fact of the moment: it is said, and the policy may be written first.
        later = await asked(write({**good, "signers": [{"name": "a", "cosign": {"key": "secret://later#x"}}]}))
        assert later["allowed"]
        assert "warnings" not in later
        stolen = await asked(write({**good, "signers": [{"name": "a", "cosign": {"key": "secret://kube-system/x#y"}}]}))
        assert not stolen["allowed"]


async def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        document = write({"images": 1})
        document["request"]["object"] = "text"
        _, answer = await webhook.post(document, "/validate-policies")
        assert answer["response"]["status"]["code"] == 422
        assert (await webhook.post({}, "/validate-policies"))[0] == 400


async def test_m10_what_is_wrong_or_dangerous_whatever_the_trust_root_is(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:

        async def asked(**cosign: Any) -> dict[str, Any]:
            spec = {"images": ["ghcr.io/**"], "signers": [{"name": "a", "cosign": cosign}]}
            _, answer = await webhook.post(write(spec), "/validate-policies")
            found: dict[str, Any] = answer["response"]
            return found

        issuer = "https://accounts.test"
        good = await asked(keyless={"issuer": issuer, "subject": "dev@acme.test"})
        assert good["allowed"]
        assert "warnings" not in good
        wide = await asked(keyless={"issuer": issuer, "subjectRegex": ".*"})
        assert wide["allowed"]
        assert wide["warnings"] == ['signer "a": keyless.subjectRegex .* fits anybody']
        root = "configmap://sigstore#trusted_root.json"
        half = await asked(keyless={"issuer": issuer}, trustRoot=root)
        assert half["status"]["message"] == (
            "spec.signers[0].cosign.keyless: exactly one of subject and subjectRegex is wanted"
        )
        unlogged = await asked(keyless={"issuer": issuer, "subject": "x"}, tlog="ignore")
        assert unlogged["status"]["message"].startswith("spec.signers[0].cosign.tlog: with keyless, a log entry")
