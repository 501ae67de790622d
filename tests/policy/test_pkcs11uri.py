"""`pkcs11:` URIs: what they name, and what is refused rather than passed over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.parsing import Invalid
from webhook.policy.pkcs11uri import TokenKey, parse_pkcs11_uri


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("pkcs11:token=acme;object=signer", TokenKey(on=(("token", "acme"),), label="signer")),
        ("pkcs11:object=signer;token=acme", TokenKey(on=(("token", "acme"),), label="signer")),
        ("pkcs11:id=%00%ff%61a", TokenKey(id=b"\x00\xffaa")),
        ("pkcs11:object=a%3bb%20%C3%BC", TokenKey(label="a;b ü")),
        ("pkcs11:object=x;type=public", TokenKey(label="x", kind="public")),
        ("pkcs11:object=x;type=cert", TokenKey(label="x", kind="cert")),
        (
            "pkcs11:serial=00:11;model=YubiKey%20YK5;manufacturer=Yubico;slot-id=4;library-version=2.6",
            TokenKey(
                on=(
                    ("library-version", "2.6"),
                    ("manufacturer", "Yubico"),
                    ("model", "YubiKey YK5"),
                    ("serial", "00:11"),
                    ("slot-id", "4"),
                )
            ),
        ),
        (
            "pkcs11:slot-description=a;slot-manufacturer=b;library-description=c;library-manufacturer=d",
            TokenKey(
                on=(
                    ("library-description", "c"),
                    ("library-manufacturer", "d"),
                    ("slot-description", "a"),
                    ("slot-manufacturer", "b"),
                )
            ),
        ),
        ("pkcs11:token=t?", TokenKey(on=(("token", "t"),))),
        ("pkcs11:token=t?module-path=/usr/lib/a.so", TokenKey(on=(("token", "t"),), module_path="/usr/lib/a.so")),
        ("pkcs11:token=t?module-name=softhsm2", TokenKey(on=(("token", "t"),), module_name="softhsm2")),
        ("pkcs11:token=t?pin-source=file:/pins/a", TokenKey(on=(("token", "t"),), pin_file="/pins/a")),
        (
            "pkcs11:token=t?pin-source=file:///pins/a%20b&module-name=m",
            TokenKey(on=(("token", "t"),), pin_file="/pins/a b", module_name="m"),
        ),
    ],
)
def test_a_uri_names_one_object(uri: str, key: TokenKey) -> None:
    assert parse_pkcs11_uri(uri) == key


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("pkcs11:", "pkcs11: names nothing"),
        ("pkcs11:?module-name=m", "pkcs11: names nothing"),
        ("pkcs11:token", "pkcs11: an attribute without a name and a value"),
        ("pkcs11:=x", "pkcs11: an attribute without a name and a value"),
        ("pkcs11:token=x;", "pkcs11: an attribute without a name and a value"),
        ("pkcs11:token=x?a", "pkcs11: an attribute without a name and a value"),
        ("pkcs11:token=", "pkcs11: token: empty"),
        ("pkcs11:token=a;token=a", "pkcs11: token: stands twice"),
        ("pkcs11:token=a?module-name=m&module-name=m", "pkcs11: module-name: stands twice"),
        ("pkcs11:tokn=a", "pkcs11: tokn: unknown attribute; known here: id, library-description"),
        ("pkcs11:x-vendor=a", "pkcs11: x-vendor: unknown attribute"),
        ("pkcs11:module-path=/a", "pkcs11: module-path: has a character that must be percent-encoded"),
        ("pkcs11:module-name=a", "pkcs11: module-name: unknown attribute"),
        (
            "pkcs11:token=a?token=b",
            "pkcs11: token: unknown attribute; known here: module-name, module-path, pin-source",
        ),
        ("pkcs11:token=a b", "pkcs11: token: has a character that must be percent-encoded"),
        ("pkcs11:token=ü", "pkcs11: token: has a character that must be percent-encoded"),
        ("pkcs11:token=a%2", "pkcs11: token: has a character that must be percent-encoded"),
        ("pkcs11:token=a%zz", "pkcs11: token: has a character that must be percent-encoded"),
        ("pkcs11:token=a\n", "pkcs11: token: has a character that must be percent-encoded"),
        ("pkcs11:token=%ff", "pkcs11: token: not UTF-8"),
        ("pkcs11:object=a%00b", "pkcs11: object: has a zero byte"),
        ("pkcs11:object=a;type=private", "pkcs11: type: only public and cert are read"),
        ("pkcs11:object=a;type=secret-key", "pkcs11: type: only public and cert are read"),
        ("pkcs11:slot-id=one", "pkcs11: slot-id: not a number"),
        ("pkcs11:slot-id=-1", "pkcs11: slot-id: not a number"),
        ("pkcs11:library-version=a", "pkcs11: library-version: not MAJOR.MINOR"),
        ("pkcs11:token=a?module-path=a.so", "pkcs11: module-path: not absolute"),
        ("pkcs11:token=a?module-path=/a&module-name=a", "pkcs11: module-path and module-name: one of them is enough"),
        ("pkcs11:token=a?pin-source=/pins/a", "pkcs11: pin-source: only a file is read"),
        ("pkcs11:token=a?pin-source=file:pins", "pkcs11: pin-source: only a file is read"),
        ("pkcs11:token=a?pin-source=|/bin/pin", "pkcs11: pin-source: only a file is read"),
        ("pkcs11:token=a?pin-source=https://x/", "pkcs11: pin-source: only a file is read"),
    ],
)
def test_what_is_not_understood_is_refused(uri: str, why: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_pkcs11_uri(uri)
    assert str(refused.value).startswith(why)


@pytest.mark.parametrize(
    "uri", ["pkcs11:token=a?pin-value=CANARY", "pkcs11:token=a?pin-source=CANARY", "pkcs11:pin-value=CANARY"]
)
def test_s08_a_pin_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_pkcs11_uri(uri)
    assert "CANARY" not in str(refused.value)


def test_a_key_is_named_without_its_module_and_its_pin() -> None:
    uri = "pkcs11:object=%1b[2J;token=acme;id=%01%ff;type=public?pin-source=file:/pins/a&module-name=m"
    assert str(parse_pkcs11_uri(uri)) == r"pkcs11:token=acme;object=\x1b[2J;id=01ff;type=public"


@given(st.text(alphabet="pkcs11:token=;?&%object/file\x00\nü ", max_size=80))
def test_c13_no_text_gives_another_error(text: str) -> None:
    try:
        parse_pkcs11_uri(f"pkcs11:{text}")
    except Invalid as e:
        assert str(e).startswith("pkcs11: ")
