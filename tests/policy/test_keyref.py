"""Key strings: what they stand for, and whose Secrets a policy may read (attacks M-06, M-08)."""

import pytest

from webhook import limits
from webhook.parsing import Invalid
from webhook.policy.keyref import Inline, ObjectKey, UrlKey, parse_keyref
from webhook.policy.pkcs11uri import TokenKey
from webhook.trust import KeyRef
from webhook.verdict import PolicyKey

TENANT = PolicyKey("shop", "web")
CLUSTER = PolicyKey(None, "web")


@pytest.mark.parametrize(
    ("reference", "owner", "key"),
    [
        ("secret://pub#cosign.pub", TENANT, ObjectKey("Secret", "shop", "pub", "cosign.pub")),
        ("secret://shop/pub#cosign.pub", TENANT, ObjectKey("Secret", "shop", "pub", "cosign.pub")),
        ("configmap://keys#a_b.PEM", TENANT, ObjectKey("ConfigMap", "shop", "keys", "a_b.PEM")),
        ("k8s://shop/pub", TENANT, ObjectKey("Secret", "shop", "pub", "cosign.pub")),
        ("secret://pub#x", CLUSTER, ObjectKey("Secret", "trusted-images", "pub", "x")),
        ("k8s://trusted-images/pub", CLUSTER, ObjectKey("Secret", "trusted-images", "pub", "cosign.pub")),
    ],
)
def test_a_key_string_names_one_entry(reference: str, owner: PolicyKey, key: ObjectKey) -> None:
    assert parse_keyref(KeyRef(reference), owner, "trusted-images") == key


def test_a_key_may_stand_in_the_policy() -> None:
    text = "\n-----BEGIN PUBLIC KEY-----\nx"
    assert parse_keyref(KeyRef(text), TENANT, "home") == Inline(text)
    with pytest.raises(Invalid, match="more than 16384 bytes"):
        parse_keyref(KeyRef("-----BEGIN " + "x" * limits.MAX_KEY_MATERIAL), TENANT, "home")


@pytest.mark.parametrize(
    ("reference", "owner"),
    [
        ("secret://kube-system/token#x", TENANT),
        ("configmap://kube-system/token#x", TENANT),
        ("k8s://trusted-images/pub", TENANT),
        ("secret://shop/pub#x", CLUSTER),
        ("k8s://shop/pub", CLUSTER),
    ],
)
def test_m06_a_policy_reads_no_other_namespace(reference: str, owner: PolicyKey) -> None:
    with pytest.raises(Invalid, match="namespace only"):
        parse_keyref(KeyRef(reference), owner, "trusted-images")


SHA256 = "0" * 63 + "a"


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        (f"https://keys.example/a.pub#sha256={SHA256}", UrlKey("https://keys.example/a.pub", SHA256)),
        (f"https://[::1]:8443/#sha256={SHA256}", UrlKey("https://[::1]:8443/", SHA256)),
        ("pkcs11:token=acme;object=signer", TokenKey((("token", "acme"),), "signer")),
    ],
)
def test_m06_only_a_cluster_policy_points_outside_the_cluster(reference: str, key: UrlKey | TokenKey) -> None:
    assert parse_keyref(KeyRef(reference), CLUSTER, "trusted-images") == key
    with pytest.raises(Invalid, match="only a ClusterTrustPolicy may refer to keys outside the cluster"):
        parse_keyref(KeyRef(reference), TENANT, "trusted-images")


@pytest.mark.parametrize(
    "reference",
    [
        "https://keys.example/a.pub",
        "https://keys.example/a.pub#sha256=",
        "https://keys.example/a.pub#sha256=00",
        f"https://keys.example/a.pub#sha256={SHA256.upper()}",
        f"https://keys.example/a.pub#sha256={SHA256}0",
        f"https://keys.example/a.pub#sha256={SHA256}\n",
        f"https://keys.example/a.pub#sha512={SHA256}",
        f"https://keys.example#sha256={SHA256}",
        f"https://user:CANARY@keys.example/a#sha256={SHA256}",
        f"https://keys.example/a?token=CANARY#sha256={SHA256}",
        f"https://keys.example/a b#sha256={SHA256}",
        f"https://keys.example:port/a#sha256={SHA256}",
        f"https:///a#sha256={SHA256}",
    ],
)
def test_s08_a_url_has_a_hash_and_no_login(reference: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_keyref(KeyRef(reference), CLUSTER, "trusted-images")
    assert str(refused.value).startswith("https: write https://HOST/PATH#sha256=HEX")
    assert "CANARY" not in str(refused.value)


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("http://keys.example/a#sha256=00", "not a key"),
        ("secret://pub", "write secret://NAME#ENTRY"),
        ("secret://../pub#x", "write secret://NAME#ENTRY"),
        ("secret://a/b/c#x", "write secret://NAME#ENTRY"),
        ("secret://pub#../x", "write secret://NAME#ENTRY"),
        ("secret://pub#x\n", "write secret://NAME#ENTRY"),
        ("configmap://Pub#x", "write secret://NAME#ENTRY"),
        ("k8s://pub", "write k8s://NAMESPACE/NAME"),
        ("k8s://a/b/c", "write k8s://NAMESPACE/NAME"),
        ("awskms://x", "awskms: key references are not supported yet"),
        ("hashivault://x", "hashivault: key references are not supported yet"),
        ("", "not a key: write a PEM public key"),
        ("/etc/passwd", "not a key: write a PEM public key"),
        ("file:///etc/passwd", "not a key: write a PEM public key"),
    ],
)
def test_m08_what_is_no_key_string_is_refused(reference: str, why: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_keyref(KeyRef(reference), TENANT, "trusted-images")
    assert why in str(refused.value)


def test_s08_text_that_may_be_a_private_key_is_not_repeated() -> None:
    with pytest.raises(Invalid) as refused:
        parse_keyref(KeyRef("MC4CAQAwBQYDK2VwBCIEIHVzZXI="), TENANT, "trusted-images")
    assert "MC4C" not in str(refused.value)


def test_a_key_is_named_so_that_people_find_it() -> None:
    assert str(parse_keyref(KeyRef("secret://pub#a"), TENANT, "home")) == "Secret shop/pub, entry a"
    assert (
        str(parse_keyref(KeyRef(f"https://keys.example/a#sha256={SHA256}"), CLUSTER, "home"))
        == "https://keys.example/a"
    )
