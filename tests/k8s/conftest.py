"""What tests before a real API server share."""

from collections.abc import AsyncIterator

import pytest

from kite_common.testing.eventually import eventually
from support.control_plane import ControlPlane, cache, running
from support.manifests import PLACE, as_list
from support.operators import definitions


@pytest.fixture(scope="module")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    """A cluster of this module's own, without nodes, that knows the operators' resources and has Kite's namespace."""
    folder = cache() / "operators"
    folder.mkdir(parents=True, exist_ok=True)
    async with running(tmp_path_factory.mktemp("control-plane")) as one:
        await one.done("apply", "--server-side", "-f", "-", given=as_list(definitions(folder)))
        await eventually(lambda: _are_served(one), within_s=60, every_s=0.5, what="the operators' resources")
        await one.done("apply", "-f", str(PLACE / "base/namespace.yaml"))
        account = ("get", "serviceaccount", "default", "-n", "kite")
        await eventually(lambda: one.done(*account), within_s=60, every_s=0.5, what="the namespace's own account")
        yield one


async def _are_served(plane: ControlPlane) -> bool:
    """Whether every definition is established. `kubectl wait` takes one that has no conditions yet for an error."""
    found = [one.get("status", {}).get("conditions") or () for one in await plane.listed("crd")]
    return bool(found) and all(any(one["type"] == "Established" and one["status"] == "True" for one in each) for each in found)
