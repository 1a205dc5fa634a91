"""How a part names its path, such that no server can read another place into it."""

from __future__ import annotations

from urllib.parse import unquote


def folder_of(path: str) -> str:
    """Return the path up to its last slash."""
    return path[: path.rindex("/") + 1]


def relative_target(target: str, folder: str) -> str | None:
    """Return `target` as a reference relative to `folder`, or None if it has no safe one.

    "/v1/users/1?full=1" in "/v1/" is "users/1?full=1". What lies outside the folder has none, nor has
    what would be read as something else once it stands alone (RFC 3986, section 4.2): "//host/x" is
    another host, "https://host/x" as well, "users:find" is a scheme, "../x" another folder.
    """
    if not target.startswith(folder):
        return None
    rest = target[len(folder) :]
    path = rest.partition("?")[0]
    return rest if path and _is_plain(path) else None


def rooted_target(target: str) -> str | None:
    """Return `target`, a path from the root, or None if a server could read another place into it."""
    return target if target == "/" or target.startswith("/?") or _is_plain(target[1:].partition("?")[0]) else None


def _is_plain(path: str) -> bool:
    """Say whether a path without its leading slash stays a path, however often it is unquoted."""
    segments = [unquote(segment) for segment in path.split("/")]
    first = segments[0]
    if not first or ":" in first or "/" in first or "\\" in path or "%5c" in path.lower():
        return False
    return not any(segment in {".", ".."} or unquote(segment) in {".", ".."} for segment in segments)
