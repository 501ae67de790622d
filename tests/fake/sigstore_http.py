"""The sigstore in memory over HTTP on loopback, as much of it as the real cosign asks for when it signs.

It issues a certificate for whatever the token says, without looking at the token's signature. Sources: the OpenAPI descriptions of
Fulcio, Rekor and the timestamp authority.
"""

import base64
import contextlib
import datetime as dt
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from asn1crypto import tsp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests.fake.pki import timestamp
from tests.fake.sigstore import Json, Sigstore, b64, canonical, inclusion_path, pem, sha256, tree_hash

_CLAIMS: Final = {"repository_uri": 12, "ref": 14, "trigger": 20, "environment": 23, "runner": 11}


def token(issuer: str, email: str | None = None, **claims: str) -> str:
    """An identity token that nobody signed."""

    def part(content: Json) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    now = int(dt.datetime.now(dt.UTC).timestamp())
    said: Json = {"iss": issuer, "aud": "sigstore", "sub": claims.pop("sub", "dev"), "iat": now, "exp": now + 3600}
    if email is not None:
        said |= {"email": email, "email_verified": True}
    return f"{part({'alg': 'RS256', 'kid': 'x'})}.{part({**said, **claims})}.c2ln"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


class _Services:
    """What each path answers; `asked` lists them."""

    def __init__(self, instance: Sigstore, now: Callable[[], dt.datetime]) -> None:
        self.instance = instance
        self.now = now
        self.asked: list[str] = []

    def certificate(self, request: Json, bearer: str) -> list[str]:
        shown = bearer or request["credentials"]["oidcIdentityToken"]
        body = shown.split(".")[1]
        claims: Json = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        public: Any
        if "publicKeyRequest" in request:
            public = load_pem_public_key(request["publicKeyRequest"]["publicKey"]["content"].encode())
        elif request.get("certificateSigningRequest"):
            public = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"])).public_key()
        else:
            from cryptography.hazmat.primitives.serialization import load_der_public_key

            content = base64.b64decode(request["publicKey"]["content"])
            public = load_pem_public_key(content) if content.startswith(b"-----") else load_der_public_key(content)
        name = x509.RFC822Name(claims["email"]) if "email" in claims else x509.UniformResourceIdentifier(claims["sub"])
        fulcio = self.instance.fulcio
        leaf = fulcio.issue(
            public,
            self.now(),
            names=(name,),
            issuer=claims["iss"],
            raw_issuer=claims["iss"],
            said={number: claims[claim] for claim, number in _CLAIMS.items() if claim in claims},
            logs=[self.instance.certificates],
        )
        return [pem(one) for one in (leaf, fulcio.intermediate.certificate, fulcio.root.certificate)]

    def entry(self, proposed: Json) -> Json:
        """Rekor 1: {uuid: entry}."""
        body = proposed
        if proposed["kind"] == "dsse":
            content = proposed["spec"]["proposedContent"]
            envelope = json.loads(content["envelope"])
            signed = base64.b64decode(envelope["payload"])
            pairs = zip(envelope["signatures"], content["verifiers"], strict=True)
            spec = {
                "envelopeHash": {"algorithm": "sha256", "value": sha256(content["envelope"].encode()).hex()},
                "payloadHash": {"algorithm": "sha256", "value": sha256(signed).hex()},
                "signatures": [{"signature": one["sig"], "verifier": verifier} for one, verifier in pairs],
            }
            body = {"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}
        log, raw, seconds = self.instance.log, canonical(body), int(self.now().timestamp())
        index = log.append(raw)
        entry = {
            "body": b64(raw),
            "integratedTime": seconds,
            "logID": log.identity.hex(),
            "logIndex": index,
            "verification": {
                "signedEntryTimestamp": b64(log.promise(raw, seconds, index)),
                "inclusionProof": {
                    "checkpoint": log.checkpoint(),
                    "hashes": [node.hex() for node in inclusion_path(index, log.leaves)],
                    "logIndex": index,
                    "rootHash": tree_hash(log.leaves).hex(),
                    "treeSize": len(log.leaves),
                },
            },
        }
        return {log.leaves[-1].hex(): entry}

    def entry_v2(self, request: Json) -> Json:
        """Rekor 2: a TransparencyLogEntry."""
        asked = request["hashedRekordRequestV002"]
        verifier = asked["signature"]["verifier"]
        which = "x509Certificate" if "x509Certificate" in verifier else "publicKey"
        spec = {
            "data": {"algorithm": "SHA2_256", "digest": asked["digest"]},
            "signature": {
                "content": asked["signature"]["content"],
                "verifier": {which: verifier[which], "keyDetails": verifier["keyDetails"]},
            },
        }
        body = {"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": spec}}
        return self.instance.log_v2.entry(body, None)

    def stamp(self, query: bytes) -> bytes:
        request = tsp.TimeStampReq.load(query)
        imprint = request["message_imprint"]
        nonce = request["nonce"].native
        return timestamp(
            self.instance.stamper,
            b"",
            self.now(),
            algorithm=imprint["hash_algorithm"]["algorithm"].native,
            imprint=imprint["hashed_message"].native,
            nonce=nonce,
            certificates=[self.instance.stamper] if request["cert_req"].native else [],
        )


@contextlib.contextmanager
def serving(instance: Sigstore, now: Callable[[], dt.datetime] = _now) -> Iterator[tuple[str, list[str]]]:
    """The services, on a port of the system's choice: their URL, and what they are asked. `now` is what all of them take for the time."""
    services = _Services(instance, now)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            services.asked.append(self.path)
            headers = {"Content-Type": "application/json"}
            status = 201
            if self.path.endswith("/signingCert"):
                bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
                chain = services.certificate(json.loads(body), bearer)
                if "/v2/" in self.path:
                    status, answer = 200, {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}
                    content = json.dumps(answer).encode()
                else:
                    content, headers = "".join(chain).encode(), {"Content-Type": "application/pem-certificate-chain"}
            elif self.path.startswith("/api/v2/log/entries"):
                content = json.dumps(services.entry_v2(json.loads(body))).encode()
            elif self.path.endswith("/log/entries"):
                entries = services.entry(json.loads(body))
                [identifier] = entries
                content = json.dumps(entries).encode()
                headers |= {"ETag": identifier, "Location": f"/api/v1/log/entries/{identifier}"}
            else:
                content, headers = services.stamp(body), {"Content-Type": "application/timestamp-reply"}
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            services.asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", services.asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
