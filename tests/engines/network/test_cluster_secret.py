"""Who has the cluster's secret can make the key of every engine, and nobody else can make one."""

from __future__ import annotations

import pytest

from engines.address import key_of, shown_address
from engines.errors import ClusterSecretMissing, SettingRefused
from engines.network.cluster_secret import ClusterSecret, cluster_secret, registered_address

OLD, NEW = "o" * 32, "n" * 32


def test_the_key_follows_from_the_registered_address_and_the_secret() -> None:
    started = ClusterSecret((OLD,)).new_address("10.0.0.7", 8000)
    registered = registered_address(started)
    assert key_of(started)
    assert key_of(started) not in registered
    assert OLD not in started
    assert shown_address(started) == shown_address(registered) == "http://10.0.0.7:8000"
    assert ClusterSecret((OLD,)).opened(registered) == started == ClusterSecret((OLD,)).opened(started)


def test_no_two_starts_share_a_key_and_another_host_has_another_one() -> None:
    secret = ClusterSecret((OLD,))
    one, two = (secret.new_address("10.0.0.7", 8000) for _ in range(2))
    assert key_of(one) != key_of(two)
    moved = registered_address(one).replace("10.0.0.7", "10.0.0.8")
    assert key_of(secret.opened(moved)) != key_of(one)


def test_a_secret_is_replaced_while_engines_with_keys_by_both_serve() -> None:
    by_old = registered_address(ClusterSecret((OLD,)).new_address("10.0.0.7", 8000))
    both = ClusterSecret((NEW, OLD))
    by_new = registered_address(both.new_address("10.0.0.8", 8000))
    for address in (by_old, by_new):
        assert key_of(both.opened(address))
    assert key_of(ClusterSecret((NEW,)).opened(by_new)) == key_of(both.opened(by_new))
    with pytest.raises(ClusterSecretMissing, match="another secret"):
        ClusterSecret((NEW,)).opened(by_old)
    with pytest.raises(ClusterSecretMissing, match="none is set here"):
        ClusterSecret().opened(by_old)


def test_addresses_with_keys_of_their_own_stay_as_they_are() -> None:
    for address in ("http://:key@10.0.0.7:8000", "http://10.0.0.7:8000", "https://engine.example"):
        assert ClusterSecret((OLD,)).opened(address) == address == registered_address(address)


def test_a_server_of_a_single_machine_has_a_key_without_a_secret() -> None:
    started = ClusterSecret().new_address("127.0.0.1", 8000)
    assert key_of(started)
    assert registered_address(started) == started


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "gpu-7"])
def test_a_server_that_others_can_reach_is_refused_without_a_secret(host: str) -> None:
    with pytest.raises(SettingRefused, match=rf"{host} can be reached from other machines.*LORRY_CLUSTER_SECRET"):
        ClusterSecret().check_covers("127.0.0.1", host)
    ClusterSecret((OLD,)).check_covers("127.0.0.1", host)
    ClusterSecret().check_covers("127.0.0.1", "::1", "localhost")


def test_the_environment_has_one_secret_or_several() -> None:
    assert cluster_secret({}) == cluster_secret({"LORRY_CLUSTER_SECRET": ""}) == ClusterSecret()
    assert cluster_secret({"LORRY_CLUSTER_SECRET": OLD}) == ClusterSecret((OLD,))
    assert cluster_secret({"LORRY_CLUSTER_SECRET": f"{NEW}, {OLD}"}) == ClusterSecret((NEW, OLD))
    assert OLD not in repr(ClusterSecret((OLD,)))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("short", "must have at least 32 characters"),
        (f"{NEW},", r"\(number 2 of 2\) must have at least 32"),
        (f"{NEW},{NEW}", "the same secret twice"),
    ],
)
def test_a_secret_that_is_none_is_refused_and_not_shown(text: str, why: str) -> None:
    with pytest.raises(SettingRefused, match=why) as refused:
        cluster_secret({"LORRY_CLUSTER_SECRET": text})
    assert text not in str(refused.value)
