"""Keys on PKCS#11 tokens, read from SoftHSM2 by a process of its own; and modules that hang, crash and lie."""

import asyncio
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.fake import softhsm
from tests.fake.signing import SigningKey
from tests.fake.softhsm import PIN, SoftHSM
from webhook import limits
from webhook.formats._keys import parse_public_keys
from webhook.keys import tokenreader
from webhook.keys.pkcs11 import Modules, TokenKeys, name_of
from webhook.keys.remote import RemoteKeys
from webhook.parsing import Invalid
from webhook.policy.pkcs11uri import TokenKey, parse_pkcs11_uri
from webhook.trust import NoSuchKey, Rejected, Unavailable, Unresolved

compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="NO GCC: modules that hang and crash are not tested")


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHSM:
    hsm = SoftHSM(tmp_path / "hsm")
    for name, value in hsm.environment.items():
        monkeypatch.setenv(name, value)
    hsm.make_token("acme")
    return hsm


def modules(pins: Path | None = None) -> Modules:
    assert softhsm.MODULE is not None
    return Modules((softhsm.MODULE,), pins)


async def read(uri: str, permitted: Modules | None = None) -> bytes | Unresolved:
    return await TokenKeys(permitted or modules()).fetch(parse_pkcs11_uri(uri))


async def why_not(uri: str, permitted: Modules | None = None) -> str:
    found = await read(uri, permitted)
    assert isinstance(found, Unresolved)
    reason = found.reason.removeprefix(f"{parse_pkcs11_uri(uri)}: ")
    assert reason != found.reason
    return reason


def certificate(signer: SigningKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signer")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, signer.private.public_key(), 1, start, start + dt.timedelta(days=9))
    return builder.sign(signer.private, hashes.SHA256())


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@softhsm.needed
@pytest.mark.parametrize("kind", ["secp256r1", "secp384r1", "secp521r1", "rsa:2048", "rsa:3072", "ed25519"])
async def test_a_public_key_is_read_without_a_pin_and_verifies_what_its_token_signs(hsm: SoftHSM, kind: str) -> None:
    hsm.make_key("acme", kind, "signer")
    found = await read("pkcs11:token=acme;object=signer")
    assert isinstance(found, bytes)
    (key,) = parse_public_keys(found, "key")
    key.verify(hsm.sign("acme", "signer", b"message"), b"message")
    with pytest.raises(Rejected):
        key.verify(hsm.sign("acme", "signer", b"message"), b"another message")


@softhsm.needed
@pytest.mark.parametrize(("kind", "why"), [("rsa:1024", "RSA of 1024 bits"), ("secp256k1", None)])
async def test_d10_a_key_that_policies_may_not_trust_is_refused_wherever_it_lies(
    hsm: SoftHSM, kind: str, why: str | None
) -> None:
    hsm.make_key("acme", kind, "signer")
    if why is None:
        assert await why_not("pkcs11:token=acme;object=signer") == "the token holds no key that can be read"
        return
    found = await read("pkcs11:token=acme;object=signer")
    assert isinstance(found, bytes)
    with pytest.raises(Invalid, match=why):
        parse_public_keys(found, "key")


@softhsm.needed
async def test_a_token_is_chosen_by_its_attributes_and_all_of_them_must_hold(hsm: SoftHSM) -> None:
    hsm.make_key("acme", "secp256r1", "signer", b"\x01\xff")
    hsm.make_token("other")
    library = pkcs11.lib(str(softhsm.MODULE))
    library.reinitialize()
    token = library.get_token(token_label="acme")
    right = {
        "token": "acme",
        "model": "SoftHSM%20v2",
        "manufacturer": "SoftHSM%20project",
        "serial": token.serial.decode(),
        "slot-id": str(token.slot.slot_id),
        "slot-manufacturer": "SoftHSM%20project",
        "library-manufacturer": "SoftHSM",
        "library-version": ".".join(map(str, library.library_version)),
        "id": "%01%ff",
        "object": "signer",
        "type": "public",
    }
    expected = await read("pkcs11:" + ";".join(f"{name}={value}" for name, value in right.items()))
    assert isinstance(expected, bytes)
    wrong = {"slot-id": "1", "library-version": "99", "id": "%02"}
    for name in right.keys() - {"type"}:
        uri = "pkcs11:" + ";".join(f"{n}={wrong.get(n, 'x') if n == name else v}" for n, v in right.items())
        try:
            found = await read(uri)
        except Unavailable as e:
            assert str(e) == "no such token is present"
        else:
            assert found == NoSuchKey(f"{parse_pkcs11_uri(uri)}: no such object on the token")
    assert await read("pkcs11:object=signer;token=acme?module-name=softhsm2") == expected
    assert await read(f"pkcs11:object=signer;token=acme?module-path={softhsm.MODULE}") == expected


@softhsm.needed
async def test_of_two_tokens_or_two_keys_none_is_guessed(hsm: SoftHSM) -> None:
    hsm.make_key("acme", "secp256r1", "signer", b"\x01")
    hsm.make_key("acme", "secp256r1", "signer", b"\x02")
    assert await why_not("pkcs11:token=acme;object=signer") == "2 objects have these attributes; name the id, too"
    assert isinstance(await read("pkcs11:token=acme;object=signer;id=%02"), bytes)
    hsm.make_token("acme")
    reason = await why_not("pkcs11:token=acme;object=signer;id=%02")
    assert reason == "2 tokens have these attributes; name the serial, too"


@softhsm.needed
async def test_a_certificate_is_read_as_one_or_for_its_key(hsm: SoftHSM) -> None:
    signer = SigningKey.generate()
    held = certificate(signer)
    hsm.put_certificate("acme", held.public_bytes(Encoding.DER), "signer")
    assert await read("pkcs11:token=acme;object=signer;type=cert") == held.public_bytes(Encoding.PEM)
    assert await read("pkcs11:token=acme;object=signer") == signer.pem.encode()
    assert await why_not("pkcs11:token=acme;object=signer;type=public") == "no such object on the token"


@softhsm.needed
async def test_a_public_key_counts_before_a_certificate_of_the_same_name(hsm: SoftHSM) -> None:
    hsm.make_key("acme", "secp256r1", "signer")
    hsm.put_certificate("acme", certificate(SigningKey.generate()).public_bytes(Encoding.DER), "signer")
    assert await read("pkcs11:token=acme;object=signer") == await read("pkcs11:token=acme;object=signer;type=public")


@softhsm.needed
async def test_a_private_key_alone_and_a_secret_key_are_no_public_key(hsm: SoftHSM, tmp_path: Path) -> None:
    hsm.make_key("acme", "secp256r1", "signer")
    hsm.remove("acme", pkcs11.ObjectClass.PUBLIC_KEY, "signer")
    hsm.put_secret("acme", "secret")
    assert await why_not("pkcs11:token=acme;object=signer") == "no such object on the token"
    assert await why_not("pkcs11:token=acme;object=secret") == "no such object on the token"
    (tmp_path / "pins").mkdir()
    (tmp_path / "pins" / "acme").write_text(PIN)
    reason = await why_not(
        f"pkcs11:token=acme;object=signer?pin-source=file:{tmp_path}/pins/acme", modules(tmp_path / "pins")
    )
    assert reason == "only the private key is there; store its public key or a certificate beside it"


@softhsm.needed
async def test_the_reader_imports_nothing_from_where_we_stand(
    hsm: SoftHSM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hsm.make_key("acme", "secp256r1", "signer")
    for name in ("webhook", "pkcs11", "json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('somebody else's code')")
    monkeypatch.chdir(tmp_path)
    assert isinstance(await read("pkcs11:token=acme;object=signer"), bytes)


# ── devices come and go ──────────────────────────────────────────────────────────────────────────────────────────────


@softhsm.needed
async def test_f25_a_device_is_plugged_in_pulled_out_and_brought_back(hsm: SoftHSM) -> None:
    hsm.make_key("acme", "secp256r1", "signer")
    hsm.unplug()
    now = 1000.0
    key = parse_pkcs11_uri("pkcs11:token=acme;object=signer")
    keys = RemoteKeys({TokenKey: TokenKeys(modules())}, lambda: now)
    await keys.look([key])
    assert keys.read(key) == Unresolved("pkcs11:token=acme;object=signer: no such token is present")
    hsm.plug_in()
    now += 1
    assert await keys.look([key]) == {key}
    found = keys.read(key)
    assert isinstance(found, bytes)
    # Its key verifies as well without it: only who wants to sign needs the device.
    hsm.unplug()
    now += limits.TOKEN_SECONDS
    assert await keys.look([key]) == frozenset()
    assert keys.read(key) == found
    # Back again, with another key under the old name, and then with none.
    hsm.plug_in()
    hsm.remove("acme", pkcs11.ObjectClass.PUBLIC_KEY, "signer")
    hsm.make_key("acme", "secp256r1", "signer")
    now += limits.TOKEN_SECONDS
    assert await keys.look([key]) == {key}
    assert keys.read(key) != found
    hsm.remove("acme", pkcs11.ObjectClass.PUBLIC_KEY, "signer")
    now += limits.TOKEN_SECONDS
    assert await keys.look([key]) == {key}
    assert keys.read(key) == NoSuchKey("pkcs11:token=acme;object=signer: no such object on the token")


@softhsm.needed
async def test_m04_only_what_the_token_itself_says_is_its_word(hsm: SoftHSM, tmp_path: Path) -> None:
    hsm.make_key("acme", "secp256r1", "signer", b"\x01")
    hsm.make_key("acme", "secp256r1", "signer", b"\x02")
    hsm.make_key("acme", "secp256k1", "odd")
    for name in ("none", "signer", "odd"):
        assert type(await read(f"pkcs11:token=acme;object={name}")) is NoSuchKey, name
    # Nobody has looked for the key.
    for uri in (
        "pkcs11:token=acme;object=none?module-name=other",
        "pkcs11:token=acme;object=none?pin-source=file:/etc/passwd",
        f"pkcs11:token=acme;object=none?pin-source=file:{tmp_path}/missing",
        # Of several tokens.
        "pkcs11:object=none",
    ):
        assert type(await read(uri, modules(tmp_path))) is Unresolved, uri


# ── modules and PINs are the operator's ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("uri", "paths", "why"),
    [
        ("pkcs11:token=a", [], "no PKCS#11 module is permitted; the operator lists them (--pkcs11-module)"),
        ("pkcs11:token=a?module-path=/tmp/evil.so", ["/m/liba.so"], "its module is none of those that the operator permits"),
        ("pkcs11:token=a?module-path=/m/../m/liba.so", ["/m/liba.so"], "its module is none of those that the operator permits"),
        ("pkcs11:token=a?module-name=b", ["/m/liba.so"], "its module is none of those that the operator permits"),
        ("pkcs11:token=a?module-name=..%2fliba", ["/m/liba.so"], "its module is none of those that the operator permits"),
        ("pkcs11:token=a", ["/m/liba.so", "/m/libb.so"], "several modules are permitted; name one"),
        ("pkcs11:token=a?module-name=a", ["/m/liba.so", "/n/liba.so"], "several modules are permitted; name one"),
    ],
)  # fmt: skip
async def test_m06_no_policy_chooses_what_code_is_loaded(uri: str, paths: list[str], why: str) -> None:
    assert (await why_not(uri, Modules(tuple(map(Path, paths))))).startswith(why)


@pytest.mark.parametrize(
    ("file", "name"), [("libsofthsm2.so", "softhsm2"), ("opensc-pkcs11.so", "opensc-pkcs11"), ("libykcs11.so.2", "ykcs11")]
)  # fmt: skip
def test_a_module_is_called_by_its_file(file: str, name: str) -> None:
    assert name_of(Path("/usr/lib", file)) == name
    permitted = Modules((Path("/usr/lib", file), Path("/usr/lib/other.so")))
    assert permitted.of(TokenKey(module_name=name)) == Path("/usr/lib", file)


async def test_a_module_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"the module cannot be loaded: .*missing"):
        await read("pkcs11:token=a", Modules((tmp_path / "missing.so",)))


@softhsm.needed
async def test_a_pin_is_read_from_the_operators_directory_alone(hsm: SoftHSM, tmp_path: Path) -> None:
    hsm.make_key("acme", "secp256r1", "signer")
    hsm.hide("acme", "signer")
    pins = tmp_path / "pins"
    pins.mkdir()
    (pins / "acme").write_text(f"{PIN}\n")
    (tmp_path / "secret").write_text("CANARY")
    (pins / "link").symlink_to(tmp_path / "secret")
    (pins / "empty").write_text("")
    (pins / "large").write_text("1" * (limits.MAX_PIN + 1))
    (pins / "binary").write_bytes(b"\xff")
    uri = "pkcs11:token=acme;object=signer"
    assert await why_not(uri) == "no such object on the token"
    assert isinstance(await read(f"{uri}?pin-source=file:{pins}/acme", modules(pins)), bytes)
    outside = "pin-source: not in the directory that the operator set aside for PINs (--pkcs11-pins)"
    for path, why in {
        f"{pins}/../secret": outside,
        f"{tmp_path}/secret": outside,
        f"{pins}/link": outside,
        f"{pins}": outside,
        f"{pins}/missing": "pin-source: the file cannot be read",
        f"{pins}/binary": "pin-source: the file cannot be read",
        f"{pins}/empty": "pin-source: empty, or more than 256 bytes",
        f"{pins}/large": "pin-source: empty, or more than 256 bytes",
    }.items():
        assert await why_not(f"{uri}?pin-source=file:{path}", modules(pins)) == why
    assert await why_not(f"{uri}?pin-source=file:{pins}/acme", modules()) == outside


@softhsm.needed
async def test_a_pin_that_was_refused_is_not_tried_again(hsm: SoftHSM, tmp_path: Path) -> None:
    hsm.make_key("acme", "secp256r1", "signer")
    log = tmp_path / "starts"
    pin = tmp_path / "pin"
    pin.write_text("0000")
    counted = ("/bin/sh", "-c", f'echo >> {log}; exec "$0" -P -m webhook.keys.tokenreader', sys.executable)
    tokens = TokenKeys(modules(tmp_path), counted)
    key = parse_pkcs11_uri(f"pkcs11:token=acme;object=signer?pin-source=file:{pin}")
    first, second = await tokens.fetch(key), await tokens.fetch(key)
    assert first == Unresolved(f"{key}: the PIN is refused (PinIncorrect)")
    assert second == Unresolved(f"{key}: its PIN was refused, and is not tried again until pin-source holds another")
    assert len(log.read_text().splitlines()) == 1
    pin.write_text(PIN)
    assert isinstance(await tokens.fetch(key), bytes)


# ── modules are somebody else's code ─────────────────────────────────────────────────────────────────────────────────

_SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
%(before)s
unsigned long C_GetFunctionList(void **list) { %(body)s; return 5; }
"""


def compiled(folder: Path, body: str = "", before: str = "") -> Modules:
    source, module = folder / "module.c", folder / "libmodule.so"
    source.write_text(_SOURCE % {"body": body, "before": before})
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(module), str(source)], check=True)  # noqa: S603, S607 - a compiler
    return Modules((module,))


@compiler
@pytest.mark.parametrize(
    ("body", "before"),
    [
        ("for (;;) sleep(1)", ""),
        ("", "__attribute__((constructor)) static void load(void) { for (;;) sleep(1); }"),
    ],
    ids=["in a call", "while it is loaded"],
)
async def test_d07_a_module_that_hangs_costs_its_own_key_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, before: str
) -> None:
    monkeypatch.setattr(limits, "TOKEN_READ_SECONDS", 0.7)
    permitted = compiled(tmp_path, body, before)
    started = tmp_path / "pid"
    reader = ("/bin/sh", "-c", f'echo $$ > {started}; exec "$0" -P -m webhook.keys.tokenreader', sys.executable)
    loop = asyncio.get_running_loop()
    begin, ticks = loop.time(), 0
    fetching = asyncio.create_task(TokenKeys(permitted, reader).fetch(TokenKey(label="x")))
    while not fetching.done():
        await asyncio.sleep(0.01)
        ticks += 1
    with pytest.raises(Unavailable, match="the module gave no answer within 1 s"):
        await fetching
    assert loop.time() - begin < 5
    assert ticks > 20
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


@compiler
async def test_a_module_that_crashes_takes_nobody_along(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="the module ended without an answer"):
        await read("pkcs11:token=x", compiled(tmp_path, "abort()"))


@compiler
async def test_what_a_module_prints_is_no_answer(tmp_path: Path) -> None:
    answer = r'"{\"objects\": [{\"kind\": \"public\", \"MODULUS\": \"01\"}]}"'
    with pytest.raises(Unavailable, match=r"^the module answers GeneralError$"):
        await read("pkcs11:token=x", compiled(tmp_path, f"puts({answer}); fflush(stdout)"))


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 0", "the module ended without an answer"),
        ("echo '{'", "the module ended without an answer"),
        ("echo '[]'", "the module ended without an answer"),
        ("echo '{\"objects\": [{\"kind\": \"private\"}]}'", "the module ended without an answer"),
        ("exec head -c 300000 /dev/zero", f"the token describes more than {limits.MAX_TOKEN_ANSWER} bytes"),
    ],
)  # fmt: skip
async def test_what_a_reader_says_is_read_strictly(script: str, why: str) -> None:
    tokens = TokenKeys(Modules((Path("/m/liba.so"),)), ("/bin/sh", "-c", script))
    with pytest.raises(Unavailable) as failed:
        await tokens.fetch(TokenKey(label="x"))
    assert str(failed.value) == why


POINT: Final = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
RAW: Final = f"04{POINT.x:064x}{POINT.y:064x}"
P256: Final = "06082a8648ce3d030107"


@pytest.mark.parametrize(
    ("described", "is_key"),
    [
        ({"EC_PARAMS": P256, "EC_POINT": f"0441{RAW}"}, True),
        ({"EC_PARAMS": P256, "EC_POINT": RAW}, True),
        ({"EC_PARAMS": P256, "EC_POINT": f"0442{RAW}00"}, False),
        ({"EC_PARAMS": P256, "EC_POINT": RAW[:-2]}, False),
        ({"EC_PARAMS": P256, "EC_POINT": "04" + "01" * 64}, False),
        ({"EC_PARAMS": P256, "EC_POINT": ""}, False),
        ({"EC_PARAMS": P256, "EC_POINT": "zz"}, False),
        ({"EC_PARAMS": P256}, False),
        ({"EC_POINT": RAW}, False),
        ({"EC_PARAMS": "06052b8104000a", "EC_POINT": RAW}, False),
        ({"EC_PARAMS": "06032b6570", "EC_POINT": "01" * 32}, True),
        ({"EC_PARAMS": "06032b6570", "EC_POINT": "01" * 31}, False),
        ({"MODULUS": "c1", "PUBLIC_EXPONENT": ""}, False),
        ({"MODULUS": "c1"}, False),
        ({}, False),
    ],
)
async def test_c13_what_a_token_says_is_a_key_or_none(described: dict[str, str], is_key: bool, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    answer.write_text(json.dumps({"objects": [{"kind": "public", **described}]}))
    tokens = TokenKeys(Modules((Path("/m/liba.so"),)), ("/bin/cat", str(answer)))
    found = await tokens.fetch(TokenKey(label="x"))
    assert isinstance(found, bytes) is is_key
    if not is_key:
        assert found == NoSuchKey("pkcs11:object=x: the token holds no key that can be read")


async def test_a_certificate_that_is_none_is_no_key(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    answer.write_text('{"objects": [{"kind": "cert", "VALUE": "3000"}]}')
    tokens = TokenKeys(Modules((Path("/m/liba.so"),)), ("/bin/cat", str(answer)))
    assert isinstance(await tokens.fetch(TokenKey(label="x")), Unresolved)
    answer.write_text('{"objects": []}')
    assert await tokens.fetch(TokenKey(label="x")) == NoSuchKey("pkcs11:object=x: no such object on the token")


async def test_a_reader_that_cannot_be_started_is_an_outage() -> None:
    with pytest.raises(Unavailable, match="no process can be started"):
        await TokenKeys(Modules((Path("/m/liba.so"),)), ("/nowhere/python",)).fetch(TokenKey(label="x"))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    request: dict[str, Any] = {"module": "/m", "on": {}, "label": None, "id": None, "kinds": ["public"], "pin": None}
    assert tokenreader.answer(request) == {
        "reason": "python-pkcs11 is not installed: the extra `pkcs11` has it",
        "outage": False,
    }
