-- Finding deliveries of one event or id without reading the whole of a team. Ids are spread evenly, so a filter per granule leaves out
-- nearly all; status has a handful of values, so granules without the wanted one are left out. Parts written before have no index and are
-- read in full until they are merged.
ALTER TABLE deliveries
    ADD INDEX IF NOT EXISTS by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS by_id delivery_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS by_status status TYPE set(16) GRANULARITY 1
