"""What a policy does not need is not imported: memory and start of whoever signs by key stay what they are."""

import subprocess
import sys

HEAVY = ("asn1crypto", "re2", "rfc3161_client", "securesystemslib", "tuf", "urllib3")
PROGRAM = f"""
import asyncio, sys
from tests.fake.registry import FakeRegistry
from tests.fake.signing import key, sign_bundle, sign_classic
from tests.formats.test_contract import claim_of, judged
from tests.policies import policy
import webhook.cli
from webhook.keys import publicgood

heavy = set({HEAVY!r})
assert not heavy & sys.modules.keys()
registry = FakeRegistry()
digest = registry.push_image("shop/app", "v1")
sign_classic(registry, "shop/app", digest, key("a"))
sign_bundle(registry, "shop/app", digest, key("a"))
signer = policy(signers=[{{"name": "a", "cosign": {{"key": key("a").pem}}}}]).signers[0].signer
proofs, _, _ = asyncio.run(judged(signer, claim_of(digest), registry))
assert len(proofs) == 2
print(*sorted(heavy & sys.modules.keys()))
"""


def test_a_policy_by_key_imports_nothing_that_others_need() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
