"""What the demo asks, and what must come of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from webhook.cli.demostage import NAMESPACE, TRUSTED, Stage


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing to ask, and what must come of it: `admitted`, or text that the refusal must contain."""

    title: str
    review: Mapping[str, object]
    admitted: bool
    says: str = ""
    path: str = "/validate"


def scenes_on(stage: Stage) -> list[Scene]:
    """All of them, in the order in which they are asked."""
    unsigned, signed = stage.image("shop/unsigned"), stage.image("shop/signed-v2")
    pod = _pod({"containers": [{"name": "app", "image": signed}]})
    debugged = _pod(
        {
            "containers": [{"name": "app", "image": signed}],
            "ephemeralContainers": [{"name": "debugger", "image": unsigned}],
        }
    )
    volume = {"name": "model", "image": {"reference": unsigned}}
    cron = {
        "spec": {
            "jobTemplate": {
                "spec": {
                    "template": _template(
                        {
                            "initContainers": [{"name": "fetch", "image": unsigned}],
                            "containers": [{"name": "app", "image": signed}],
                        }
                    )
                }
            }
        }
    }
    wrong = {
        "apiVersion": "trusted-images.dev/v1alpha1",
        "kind": "TrustPolicy",
        "metadata": {"name": "wrong", "namespace": NAMESPACE},
        "spec": {
            "images": ["ghcr.io/acme/*"],
            "signers": [{"name": "release", "cosign": {"key": "secret://other-team/cosign#cosign.pub"}}],
            "require": "release and qa",
        },
    }
    no_signature = 'no signature by "release"'
    return [
        Scene("Deployment, nobody signed the image", _deployment(unsigned), admitted=False, says=no_signature),
        Scene("Deployment, signed by cosign 2 (.sig tag)", _deployment(signed), admitted=True),
        Scene(
            "Deployment, signed by cosign 3 (bundle, referrers API)",
            _deployment(stage.image("shop/signed-v3")),
            admitted=True,
        ),
        Scene(
            "Deployment, signed by cosign 3 (bundle, fallback tag)",
            _deployment(stage.image("shop/signed-v3", older=True)),
            admitted=True,
        ),
        Scene(
            "both styles, the .sig one broken",
            _deployment(stage.image("shop/both-v2-broken", older=True)),
            admitted=True,
        ),
        Scene(
            "both styles, the bundle broken", _deployment(stage.image("shop/both-v3-broken", older=True)), admitted=True
        ),
        Scene(
            "the signed payload was changed",
            _deployment(stage.image("shop/tampered")),
            admitted=False,
            says=no_signature,
        ),
        Scene(
            "the signature is another image's",
            _deployment(stage.image("shop/borrowed")),
            admitted=False,
            says=no_signature,
        ),
        Scene(
            "signed, but by a key the policy does not name",
            _deployment(stage.image("shop/wrong-key")),
            admitted=False,
            says='no signature by "vendor"',
        ),
        Scene(
            "keyless by cosign 2 (certificate, log entry)", _deployment(stage.image("keyless/signed-v2")), admitted=True
        ),
        Scene("keyless by cosign 3 (bundle)", _deployment(stage.image("keyless/signed-v3", older=True)), admitted=True),
        Scene(
            "keyless, but by another identity",
            _deployment(stage.image("keyless/somebody-elses", older=True)),
            admitted=False,
            says="signed by dev@acme.test, another subject",
        ),
        Scene(
            "signed with GPG by skopeo (lookaside store), one signature of two by the right key",
            _deployment(stage.image("shop/by-gpg")),
            admitted=True,
        ),
        Scene(
            "signed with GPG, but by another key",
            _deployment(stage.image("shop/by-other-gpg")),
            admitted=False,
            says="signed by unknown key GPG:882516DC24A16540A2BCCEBEAF282D19E8FD329A",
        ),
        Scene("Docker Content Trust, the tag is signed by notary", _deployment(f"{TRUSTED}:v2"), admitted=True),
        Scene(
            "Docker Content Trust, the registry moved the tag",
            _deployment(f"{TRUSTED}:v1"),
            admitted=False,
            says="targets: tag v1 is signed for another image",
        ),
        Scene(
            "signed by notation (COSE, certificate, timestamp)",
            _deployment(stage.image("vendor/app")),
            admitted=True,
        ),
        Scene(
            "signed by notation, but by somebody else",
            _deployment(stage.image("vendor/other")),
            admitted=False,
            says="which is no trusted identity of the policy",
        ),
        Scene("two of three signers, by cosign and by GPG", _deployment(stage.image("release/by-two")), admitted=True),
        Scene(
            "the same, signed by one of them alone",
            _deployment(stage.image("release/by-one")),
            admitted=False,
            says="`2 of (release, vendor, qa)`",
        ),
        Scene("provenance and a scan without grave findings", _deployment(stage.image("scanned/web")), admitted=True),
        Scene(
            "the same, and a policy that wants fewer findings",
            _deployment(stage.image("scanned/strict")),
            admitted=False,
            says='no attestation by "scan" (`where` does not hold',
        ),
        Scene("Pod with a signed image", _review("", "Pod", pod), admitted=True),
        Scene(
            "kubectl debug with an unsigned image",
            _review("", "Pod", debugged, old=pod, sub_resource="ephemeralcontainers"),
            admitted=False,
            says="spec.ephemeralContainers[0].image",
        ),
        Scene(
            "Pod with an unsigned image volume",
            _review("", "Pod", _pod({"containers": [{"name": "app", "image": signed}], "volumes": [volume]})),
            admitted=False,
            says="spec.volumes[0].image.reference",
        ),
        Scene(
            "CronJob with an unsigned init container",
            _review("batch", "CronJob", cron),
            admitted=False,
            says="spec.jobTemplate.spec.template.spec.initContainers[0].image",
        ),
        Scene(
            "a label changes on an old Pod", _review("", "Pod", _pod_of(unsigned), old=_pod_of(unsigned)), admitted=True
        ),
        Scene("the registry is down", _deployment("127.0.0.1:1/shop/web:v1"), admitted=False, says="could not verify"),
        Scene(
            "kubectl apply of a wrong policy",
            _review("trusted-images.dev", "TrustPolicy", wrong),
            admitted=False,
            says="spec.require: column 13",
            path="/validate-policies",
        ),
    ]


def _pod_of(image: str) -> dict[str, object]:
    return _pod({"containers": [{"name": "app", "image": image}]})


def _pod(spec: dict[str, object]) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": NAMESPACE}, "spec": spec}


def _template(spec: dict[str, object]) -> dict[str, object]:
    return {"metadata": {"labels": {"app": "web"}}, "spec": spec}


def _deployment(image: str) -> dict[str, object]:
    template = _template({"containers": [{"name": "web", "image": image}]})
    return _review("apps", "Deployment", {"metadata": {"name": "web"}, "spec": {"template": template}})


def _review(
    group: str,
    kind: str,
    document: Mapping[str, object],
    old: Mapping[str, object] | None = None,
    sub_resource: str = "",
) -> dict[str, object]:
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": group, "version": "v1", "kind": kind},
        "subResource": sub_resource,
        "namespace": NAMESPACE,
        "name": "web",
        "operation": "UPDATE" if old else "CREATE",
        "dryRun": False,
        "object": document,
        "oldObject": old,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
