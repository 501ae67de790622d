"""What a policy does not need is not imported: memory and start of whoever signs by key stay what they are."""

import subprocess
import sys

HEAVY = ("asn1crypto", "re2", "rfc3161_client", "securesystemslib", "tuf", "urllib3")
PROGRAM = f"""
import asyncio, datetime, sys
from tests.fake.registry import FakeRegistry
from tests.fake.signing import key, sign_bundle, sign_classic
import webhook.cli
from webhook.formats import FORMATS
from webhook.image import Repository, Subject
from webhook.keys import publicgood
from webhook.policy.parse import parse_policy
from webhook.trust import Claim
from webhook.verdict import PolicyKey

heavy = set({HEAVY!r})
assert not heavy & sys.modules.keys(), "before"
registry = FakeRegistry()
digest = registry.push_image("shop/app", "v1")
sign_classic(registry, "shop/app", digest, key("a"))
sign_bundle(registry, "shop/app", digest, key("a"))
pem = key("a").pem
spec = {{"images": ["**"], "signers": [{{"name": "a", "cosign": {{"key": pem}}}}]}}
policy = parse_policy(PolicyKey("shop", "web"), spec, {{pem: pem.encode()}}, FORMATS, "trusted-images")
signer, claim = policy.signers[0].signer, Claim(Subject(Repository("registry.test", "shop/app"), digest, "v1"))

async def judge():
    now = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
    return [signer.check(evidence, claim, now) async for evidence in signer.collect(claim, registry)]

assert len(asyncio.run(judge())) == 2
print(*sorted(heavy & sys.modules.keys()))
"""


def test_a_policy_by_key_imports_nothing_that_others_need() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
