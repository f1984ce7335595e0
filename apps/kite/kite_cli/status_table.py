"""A running local stack as a table. Looks nothing up but what the stack tells."""

from rich.table import Table

from kite_cli.found import FoundStack


def status_table(stack: FoundStack) -> Table:
    """Its processes, where they listen, and their memory."""
    table = Table("part", "listens on", "pid", "memory", title=f"{stack.data} (supervisor pid {stack.supervisor})")
    memory = stack.resident_bytes()
    for name, pid in stack.pids.items():
        table.add_row(name, stack.listens_on(name), str(pid), f"{memory[name] / 2**20:.0f} MiB")
    if not stack.gateway:
        table.caption = "still starting"
    return table
