"""On what a run was made: facts that say nothing about whose machine it is."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from importlib import metadata

_PEERS = ("batched", "service-streamer", "ubatch", "aiodataloader", "google-cloud-pubsub", "opentelemetry-sdk")


def facts() -> dict[str, str]:
    """Return what the figures depend on."""
    free = " (free-threaded)" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}{free}",
        "processors": str(os.cpu_count()),
        "system": f"{platform.system()} on {platform.machine()}",
        "switch interval": f"{sys.getswitchinterval() * 1e3:g} ms",
    }


def peers() -> dict[str, str]:
    """Return the versions of the peers that are installed."""
    found = {}
    for name in _PEERS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
