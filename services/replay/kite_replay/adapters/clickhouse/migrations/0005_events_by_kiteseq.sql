-- kiteseq rises with the sort key of a team: its bounds per granule find the events of deliveries.
ALTER TABLE events
    ADD INDEX IF NOT EXISTS by_kiteseq kiteseq TYPE minmax GRANULARITY 1
