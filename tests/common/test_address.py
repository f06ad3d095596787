import pytest

from ams_common.address import split_address


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost:50051", ("localhost", 50051)),
        ("[::]:0", ("::", 0)),
        (":8080", ("", 8080)),
        ("[fe80::1]:65535", ("fe80::1", 65535)),
    ],
)
def test_host_and_port(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize(
    "address", ["", "host", "host:", "host:-1", "host:65536", "host:٣", "::1:80", "host: 80", "http://host:80", "host:80/path"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="must"):
        split_address(address)
