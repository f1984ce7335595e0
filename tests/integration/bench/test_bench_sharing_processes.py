"""Two processes of a service share its partitions and work off what is there: each has a part, and every event is there once."""

import asyncio
import re
import sys


async def test_a_second_process_of_each_consumer_takes_a_part_of_the_backlog() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kite_cli.bench.sharing", "--pairs", "120000", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    # It ends with an error if a second process gets nothing to do, or if an event is missing or twice at an endpoint, in ledger or archive.
    assert process.returncode == 0, err.decode()[-2_000:]
    for service in ("delivery: first attempts", "billing: usage records", "archiver: rows"):
        (line,) = [line for line in out.decode().splitlines() if service in line]
        (part,) = re.findall(r"(\d+)%", line)
        assert 10 <= int(part) <= 90, line
