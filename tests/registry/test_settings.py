"""`registries.yaml`: read strictly, used live (attack P-07, fault F09)."""

from pathlib import Path

import pytest

from webhook import limits
from webhook.image import parse_repository
from webhook.parsing import Invalid
from webhook.registry.settings import FixedSettings, RegistrySettings, SettingsFile, parse_settings


def complaints(text: str) -> tuple[str, ...]:
    with pytest.raises(Invalid) as refused:
        parse_settings(text.encode(), "registries.yaml")
    return tuple(complaint.removeprefix("registries.yaml.") for complaint in refused.value.complaints)


def test_every_field_is_read(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    settings = parse_settings(
        f"""
        registries:
          - host: Registry.Acme.IO:443
            ca: {ca}
            credentials: {{dockerconfig: /etc/creds/config.json}}
            realms: [auth.acme.io]
          - host: 127.0.0.1:5000
            plainHTTP: true
            mirrors: [{{source: docker.io, prefix: 127.0.0.1:5000/hub}}, {{source: ghcr.io/acme, prefix: "127.0.0.1:5000"}}]
        """.encode(),
        "registries.yaml",
    )
    acme = settings.of("registry.acme.io")
    assert (acme.ca, acme.plain_http, acme.configured) == (ca, False, True)
    assert acme.dockerconfig == Path("/etc/creds/config.json")
    assert acme.realms == {"auth.acme.io"}
    assert settings.of("127.0.0.1:5000").plain_http
    other = settings.of("ghcr.io")
    assert (other.plain_http, other.configured, other.ca) == (False, False, None)


@pytest.mark.parametrize(
    ("image", "fetched"),
    [
        ("nginx", "127.0.0.1:5000/hub/library/nginx"),
        ("acme/web", "127.0.0.1:5000/hub/acme/web"),
        ("ghcr.io/acme/web", "127.0.0.1:5000/web"),
        ("ghcr.io/acmex/web", "ghcr.io/acmex/web"),
        ("ghcr.io/other/web", "ghcr.io/other/web"),
        ("quay.io/a/b/c", "127.0.0.1:5000/special/c"),
        ("quay.io/a/c", "127.0.0.1:5000/quay/a/c"),
    ],
)
def test_p11_a_mirror_is_chosen_by_whole_components_and_the_longest_source(image: str, fetched: str) -> None:
    settings = parse_settings(
        b"""
        registries:
          - host: 127.0.0.1:5000
            mirrors:
              - {source: docker.io, prefix: 127.0.0.1:5000/hub}
              - {source: quay.io, prefix: 127.0.0.1:5000/quay}
              - {source: quay.io/a/b, prefix: 127.0.0.1:5000/special}
              - {source: ghcr.io/acme, prefix: "127.0.0.1:5000"}
        """,
        "x",
    )
    assert str(settings.location(parse_repository(image))) == fetched


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ["registries.yaml: 0 documents; exactly one is wanted"]),
        ("a: 1\n---\nb: 2", ["registries.yaml: 2 documents; exactly one is wanted"]),
        ("[]", ["registries.yaml: expected object, got array"]),
        ("registries: [{host: a.io, host: b.io}]", ["registries.yaml, line 1, column 14: a key stands twice"]),
        ("registries: [{}]", ["registries[0].host: required"]),
        ("registries: [{host: a.io, plainHttp: true}]", ["registries[0].plainHttp: unknown field; known: ca, cred"]),
        ("registries: [{host: a.io, plainHTTP: 'yes'}]", ["registries[0].plainHTTP: expected bool, got str"]),
        ("registries: [{host: 'http://a.io'}]", ["registries[0].host: http://a.io: not a registry's host"]),
        ("registries: [{host: a.io, ca: /does/not/exist}]", ["registries[0].ca: /does/not/exist is no file"]),
        ("registries: [{host: a.io, ca: /x, plainHTTP: true}]", ["registries[0].ca: without meaning beside plainHTTP"]),
        ("registries: [{host: a.io}, {host: A.IO}]", ["registries[1].host: a.io stands twice"]),
        (
            "registries: [{host: a.io, mirrors: [{source: b.io/UP, prefix: c.io}]}]",
            ["registries[0].mirrors[0]: b.io/UP/x: UP is not a part"],
        ),
        (
            "registries: [{host: a.io, mirrors: [{source: b.io, prefix: c.io}, {source: b.io, prefix: d.io}]}]",
            ["registries[0].mirrors: b.io has two mirrors"],
        ),
    ],
)
def test_every_mistake_is_told_with_its_place(text: str, wanted: list[str]) -> None:
    for complaint, beginning in zip(complaints(text), wanted, strict=True):
        assert complaint.startswith(beginning)


def test_the_file_is_bounded() -> None:
    assert complaints("#" * (limits.MAX_YAML + 1)) == ("registries.yaml: more than 1048576 bytes",)


def test_a_change_is_live_and_a_broken_one_leaves_the_last_good_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "registries.yaml"
    now = [0.0]

    def write(text: str) -> None:
        other = tmp_path / "new"
        other.write_text(text)
        other.replace(file)

    write("registries: [{host: a.io, plainHTTP: true}]")
    settings = SettingsFile(file, clock=lambda: now[0])
    assert settings.current.of("a.io").plain_http
    write("registries: [{host: b.io, plainHTTP: true}]")
    assert settings.current.of("a.io").plain_http  # looked at less than a second ago
    now[0] += 1
    assert settings.current.of("b.io").plain_http
    write("registries: {")
    now[0] += 1
    assert settings.current.of("b.io").plain_http
    assert caplog.messages[-1].startswith("registries.yaml, line ")
    file.unlink()
    now[0] += 1
    assert settings.current.of("b.io").plain_http
    assert "No such file" in caplog.messages[-1]
    write("registries: []")
    now[0] += 1
    assert not settings.current.of("b.io").plain_http
    with pytest.raises(FileNotFoundError):
        SettingsFile(tmp_path / "gone")


def test_settings_without_a_file() -> None:
    assert RegistrySettings.plain_http(["Localhost:5000"]).of("localhost:5000").plain_http
    assert not RegistrySettings.plain_http(["localhost:5000"]).of("ghcr.io").plain_http
    assert FixedSettings(RegistrySettings.plain_http_everywhere()).current.of("ghcr.io").plain_http
    assert not RegistrySettings.empty().of("ghcr.io").plain_http
