"""When anvil's binary is taken as it is, and when it is installed again. A script stands for npm, another for what it brings."""

import asyncio
from pathlib import Path

import pytest

from kite_cli.local.chain.install import VERSION, anvil_of, ensure_anvil, package_name
from kite_cli.local.step import StepFailed


class Quiet:
    """Tells nobody."""

    def doing(self, step: str, text: str) -> None: ...
    def done(self, step: str, text: str) -> None: ...
    def warn(self, step: str, text: str) -> None: ...
    def stop(self) -> None: ...


WHOLE = f"#!/bin/sh\necho anvil Version: {VERSION}\n"


def npm_brings(folder: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm that is found first and puts this into the working directory; the file that counts its runs."""
    bin_folder, binary = folder / "bin", Path("node_modules") / package_name() / "bin" / "anvil"
    bin_folder.mkdir()
    (folder / "brought").write_text(content, "utf-8")
    npm = bin_folder / "npm"
    npm.write_text(
        f"#!/bin/sh\nmkdir -p {binary.parent}\ncp {folder}/brought {binary}\nchmod +x {binary}\necho run >> {folder}/runs\n", "utf-8"
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
    return folder / "runs"


@pytest.mark.parametrize("found", [None, "", "\x7fELF cut short", "#!/bin/sh\necho anvil Version: 0.1\n", "#!/bin/sh\nkill -BUS $$\n"])
async def test_a_binary_that_is_missing_or_does_not_run_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:  # fmt: skip
    lib, runs = tmp_path / "lib", npm_brings(tmp_path, WHOLE, monkeypatch)
    if found is not None:
        binary = anvil_of(lib)
        binary.parent.mkdir(parents=True)
        binary.write_text(found, "utf-8")
        binary.chmod(0o755)
    # The second one finds the first one's work, and so does a later start.
    await asyncio.gather(ensure_anvil(lib, Quiet()), ensure_anvil(lib, Quiet()))
    assert await ensure_anvil(lib, Quiet()) == anvil_of(lib)
    assert anvil_of(lib).read_text("utf-8") == WHOLE
    assert runs.read_text("utf-8") == "run\n"


async def test_a_binary_that_does_not_run_here_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm_brings(tmp_path, "#!/bin/sh\nexit 1\n", monkeypatch)
    with pytest.raises(StepFailed, match="does not run on this machine"):
        await ensure_anvil(tmp_path / "lib", Quiet())
