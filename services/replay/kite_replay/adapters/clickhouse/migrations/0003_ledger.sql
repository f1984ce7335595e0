-- The entries of all wallets, kept for ever; read by team, newest first.
CREATE TABLE IF NOT EXISTS ledger
(
    team_id        String                CODEC (ZSTD(1)),
    created_at     DateTime64(3, 'UTC')  CODEC (Delta, ZSTD(1)),
    partition      UInt16                CODEC (ZSTD(1)),
    log_offset     UInt64                CODEC (Delta, ZSTD(1)),
    entry_id       String                CODEC (ZSTD(1)),
    amount_atomic  Int64                 CODEC (ZSTD(1)),
    event_id       String                CODEC (ZSTD(1)),
    fact           String                CODEC (ZSTD(1)),
    PROJECTION tails (SELECT partition, max(log_offset), max(created_at) GROUP BY partition)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(created_at)
ORDER BY (team_id, log_offset)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
