-- An insert is refused whole unless it comes from the owner of all its partitions, as of when ClickHouse carries it out: also one that was sent
-- long ago and had to wait. Found by kitectl chaos, seed 35. A version without fences stores nothing beside one that has them; to go back to
-- one: ALTER TABLE deliveries DROP CONSTRAINT owned.
ALTER TABLE deliveries
    ADD COLUMN IF NOT EXISTS fence UInt64 DEFAULT 0 CODEC (ZSTD(1)),
    ADD CONSTRAINT IF NOT EXISTS owned CHECK fence = joinGet('owners', 'fence', 'deliveries', partition)
