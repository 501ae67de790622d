"""Registries as they are inside companies: an authority of their own, a mirror, addresses that only the operator may name."""

import pytest

from tests.e2e.laboratory import MIRRORED, Lab
from tests.e2e.test_story import images, pod, refused, shop

__all__ = ["images", "shop"]


def test_f09_a_registry_with_an_authority_of_its_own(lab: Lab, shop: str) -> None:
    image = lab.push(lab.secured, "shop/secured:v1")
    assert "no signature by" in refused(lab, pod(image), shop)
    signed = lab.push(lab.secured, "shop/secured-signed:v1")
    lab.sign(signed, "release")
    lab.cluster.kubectl("create", "deployment", "secured", f"--image={signed}", "-n", shop)
    lab.cluster.kubectl("rollout", "status", "deployment/secured", "-n", shop, "--timeout=90s")


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_images_are_fetched_from_the_mirror_and_judged_under_their_own_name(lab: Lab, shop: str, by: str) -> None:
    # Docker Hub cannot be reached under this name by anybody here: an answer is the mirror's.
    for name, sign in ((f"mirrored-{by}", True), (f"unsigned-{by}", False)):
        held = lab.push(lab.public, f"hub/{name}:v1")
        if sign:
            lab.sign(held, "release")
        image = f"{MIRRORED}/{name}" + (f"@{held.partition('@')[2]}" if by == "digest" else ":v1")
        if sign:
            lab.cluster.try_out(pod(image), shop)
        else:
            text = refused(lab, pod(image), shop)
            assert f"{MIRRORED}/{name}" in text
            assert "no signature by" in text


def test_s03_an_internal_address_that_nobody_has_named_is_not_asked(lab: Lab, shop: str) -> None:
    address = lab.public.host.partition(":")[0]
    lab.cluster.apply(lab.policy("anything", shop, images=[f"{address}:1/**"]))
    lab.cluster.kubectl("wait", "tp", "anything", "-n", shop, "--for=condition=Ready", "--timeout=30s")
    assert "is an internal address" in refused(lab, pod(f"{address}:1/shop/x:v1"), shop)
