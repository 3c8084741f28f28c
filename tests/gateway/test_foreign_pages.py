"""A page of another site is told apart from this machine's own clients by the headers that browsers send."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.errors import HostNotAllowed, OriginNotAllowed, UnsupportedMediaType
from gateway.foreign_pages import PageGuard, check_is_json, check_is_not_simple
from gateway.origins import AllowedOrigins
from gateway.settings import GatewaySettings

HERE = b"127.0.0.1:8080"


def guard(*hosts: str, origins: tuple[str, ...] = ()) -> PageGuard:
    settings = GatewaySettings(allowed_hosts=hosts, cors_origins=origins)
    return PageGuard(settings.allowed_hosts, AllowedOrigins(settings.cors_origins), "GPU-box")


@pytest.mark.parametrize(
    "host",
    [
        *(b"127.0.0.1", b"127.0.0.1:8080", b"[::1]:8080", b"[::ffff:127.0.0.1]", b"10.42.0.7:8080", b"0.0.0.0:8080"),
        *(b"localhost", b"LocalHost:8080", b"localhost.", b"lorry.localhost:80", b"gpu-box:8080"),
        *(b"host.docker.internal:8080", b"host.containers.internal", None),
    ],
)
def test_names_of_this_machine_and_addresses_pass(host: bytes | None) -> None:
    for _ in range(2):
        guard().check(host, None, None, is_keyless=True)


@pytest.mark.parametrize(
    "host",
    [
        *(b"rebound.example:8080", b"127.0.0.1.nip.io", b"localhost.evil.example", b"evil.example.", b"notlocalhost"),
        *(b"127.0.0.1@evil.example", b"", b":8080", b"[::1", b"a b", b"localhost, evil.example", b"lorry", b"a.local"),
        *(b"gpu-box.evil.example", b"evil.example:80:80", b"localhost:8080\xff", b"127.1", b"localhost/"),
    ],
)
def test_a_name_that_any_page_may_have_is_refused_with_the_setting(host: bytes) -> None:
    with pytest.raises(HostNotAllowed, match="allowed_hosts"):
        guard().check(host, None, None, is_keyless=True)


def test_with_keys_names_of_a_private_network_reach_the_admin_endpoints() -> None:
    for host in (b"lorry:8080", b"lorry.models.svc", b"lorry.models.svc.cluster.local:80", b"gpu.internal"):
        guard().check(host, None, None, is_keyless=False)
        with pytest.raises(HostNotAllowed):
            guard().check(host, None, None, is_keyless=True)
    with pytest.raises(HostNotAllowed, match="admin"):
        guard().check(b"lorry.example.com", None, None, is_keyless=False)


def test_hosts_of_the_setting_pass() -> None:
    allowing = guard("Lorry.Example.com", "*.corp.example")
    for host in (b"lorry.example.com:443", b"a.b.corp.example"):
        allowing.check(host, None, None, is_keyless=True)
    for host in (b"corp.example", b"xcorp.example", b"x.lorry.example.com"):
        with pytest.raises(HostNotAllowed):
            allowing.check(host, None, None, is_keyless=True)
    guard("*").check(b"anything.example", None, None, is_keyless=True)


@pytest.mark.parametrize(
    "wrong", ["http://a.example", "a.example:8080", "a/b", "", "a b", "*.", "a.*.example", "[::1]"]
)
def test_what_is_no_host_is_refused_with_an_example(wrong: str) -> None:
    with pytest.raises(ValidationError, match=r"lorry\.example\.com"):
        GatewaySettings(allowed_hosts=(wrong,))


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        *((b"http://other.example", None), (b"http://other.example", b"cross-site"), (b"null", b"cross-site")),
        *((None, b"cross-site"), (None, b"same-site"), (b"http://127.0.0.1:5173", b"same-site"), (b"", None)),
        *((b"http://127.0.0.1:80801", None), (b"http://127.0.0.1:8080.evil.example", None), (b"null", None)),
        *((b"http://127.0.0.1:8080", b"cross-site"), (b"http://evil.example", b"same-origin"), (None, b"")),
        (b"chrome-extension://abcdef", b"none"),
    ],
)
def test_a_page_of_another_site_is_refused_with_the_setting(origin: bytes | None, site: bytes | None) -> None:
    with pytest.raises(OriginNotAllowed, match="cors_origins"):
        guard().check(HERE, origin, site, is_keyless=True)


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        (None, b"none"),
        (None, b"same-origin"),
        (b"http://127.0.0.1:8080", b"same-origin"),
        (b"https://127.0.0.1:8080", None),
    ],
)
def test_a_page_of_this_gateway_and_a_typed_address_pass(origin: bytes | None, site: bytes | None) -> None:
    guard().check(HERE, origin, site, is_keyless=True)


def test_an_allowed_origin_passes_from_another_site_but_by_no_other_host() -> None:
    allowing = guard(origins=("https://chat.example",))
    allowing.check(HERE, b"https://chat.example", b"cross-site", is_keyless=True)
    with pytest.raises(OriginNotAllowed):
        allowing.check(HERE, None, b"cross-site", is_keyless=True)
    with pytest.raises(HostNotAllowed):
        allowing.check(b"chat.example", b"https://chat.example", b"same-origin", is_keyless=True)
    guard(origins=("*",)).check(HERE, None, b"cross-site", is_keyless=True)


def test_a_host_that_was_refused_is_refused_again_and_cut_in_the_message() -> None:
    asked = guard()
    for _ in range(2):
        with pytest.raises(HostNotAllowed) as refused:
            asked.check(b"a" * 9000 + b".example", None, None, is_keyless=True)
        assert len(str(refused.value)) < 400


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"])
def test_json_is_json(kind: str) -> None:
    check_is_json(kind, is_from_browser=True)


@pytest.mark.parametrize(
    "kind", ["text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "", "text/json", "json"]
)
def test_a_body_of_another_type_is_not_read_as_json(kind: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="application/json"):
        check_is_json(kind, is_from_browser=False)


def test_only_programs_may_leave_the_type_out() -> None:
    check_is_json(None, is_from_browser=False)
    check_is_not_simple(None, is_from_browser=False, right="application/x-tar")
    check_is_not_simple("application/octet-stream", is_from_browser=True, right="application/x-tar")
    for kind in (None, "text/plain", "multipart/form-data; boundary=x"):
        with pytest.raises(UnsupportedMediaType):
            check_is_not_simple(kind, is_from_browser=True, right="application/x-tar")
    with pytest.raises(UnsupportedMediaType):
        check_is_json(None, is_from_browser=True)
