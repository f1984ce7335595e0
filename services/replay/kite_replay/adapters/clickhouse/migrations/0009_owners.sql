-- Who archives a partition of a table now: the fence that its rows must carry. In memory only: after a start nobody owns anything, and whoever
-- archives takes over anew.
CREATE TABLE IF NOT EXISTS owners
(
    name       String,
    partition  UInt16,
    fence      UInt64
)
ENGINE = Join(ANY, LEFT, name, partition)
SETTINGS join_any_take_last_row = 1, persistent = 0
