"""The measurement of pages fills tables that migrations have made: it runs through, on few rows."""

import asyncio
import sys
from pathlib import Path


async def test_pages_are_measured_on_tables_as_they_are(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kite_cli.bench.pages", "--data", str(tmp_path / "archive"), "--rows", "20000", "--reads", "2",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-2_000:]
    assert "| first | 1,000 |" in out.decode()
