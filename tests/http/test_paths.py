"""Paths of parts: relative, and never another place than the caller's."""

from urllib.parse import unquote, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.http._paths import folder_of, relative_target, rooted_target


@pytest.mark.parametrize(
    ("target", "folder", "expected"),
    [
        ("/v1/users/1?full=1", "/v1/", "users/1?full=1"),
        ("/users", "/", "users"),
        ("/v1/users/2024-01-01T00:00", "/v1/", "users/2024-01-01T00:00"),
        ("/v1/users?next=https://h//../x", "/v1/", "users?next=https://h//../x"),
        ("/v1/$metadata", "/v1/", "$metadata"),
    ],
)
def test_paths_inside_the_folder(target: str, folder: str, expected: str) -> None:
    """A path is written as what follows the folder, with its query."""
    assert relative_target(target, folder) == expected


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "?x=1",
        "/evil.example/x",
        "//evil.example/x",
        "https://evil.example/x",
        "https:%2F%2Fevil.example/x",
        "https%3A%2F%2Fevil.example/x",
        "%2F%2Fevil.example/x",
        "users:find",
        "../x",
        "a/../../x",
        "%2e%2e/x",
        "a/.%2E/x",
        "%252e%252e/x",
        "a\\b",
        "%5Cevil.example/x",
    ],
)
def test_what_could_be_read_otherwise_has_no_relative_path(rest: str) -> None:
    """Another host, another scheme or another folder: such a request has no place in a batch."""
    assert relative_target(f"/v1/{rest}", "/v1/") is None
    assert relative_target(f"/{rest}", "/") is None


def test_paths_outside_the_folder_have_none() -> None:
    """What lies beside the endpoint's folder can't be written relative to it."""
    assert relative_target("/v2/users", "/v1/") is None
    assert relative_target("/v1", "/v1/") is None


@pytest.mark.parametrize("target", ["/", "/?x=1", "/drive/v3/files?x=//y", "/a/b:c"])
def test_rooted_paths(target: str) -> None:
    """A format that writes paths from the root takes them as they are."""
    assert rooted_target(target) == target


@pytest.mark.parametrize("target", ["//evil.example/x", "/%2Fevil.example/x", "/../x", "/https://evil.example"])
def test_rooted_paths_that_could_be_read_otherwise(target: str) -> None:
    """A path that a server could read as another host or folder has no place in a batch."""
    assert rooted_target(target) is None


def test_folders() -> None:
    """The folder is what the path has up to its last slash."""
    assert [folder_of(path) for path in ("/$batch", "/v1.0/$batch", "/a/b/c")] == ["/", "/v1.0/", "/a/b/"]


@given(
    st.lists(st.sampled_from(["a", "..", ".", "/", ":", "%2e", "%2f", "%3a", "%25", "\\", "?", "#", "$1"]), max_size=8)
)
def test_a_relative_path_leads_back_to_its_own_place(pieces: list[str]) -> None:
    """Resolved as RFC 3986 says, even after unquoting, a relative path stays in the folder."""
    target = "/v1/" + "".join(pieces).replace("#", "")
    found = relative_target(target, "/v1/")
    if found is None:
        return
    assert urljoin("http://h/v1/$batch", found).startswith("http://h/v1/")
    path = found.partition("?")[0]
    assert urljoin("http://h/v1/$batch", unquote(path).replace("?", "%3f")).startswith("http://h/v1/")
