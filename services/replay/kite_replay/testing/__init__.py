"""For tests: records as the log would hold them, an archive and an attempt log in memory, and what every implementation of them must do."""

from kite_replay.testing.archive import (
    ArchiveBehaviour,
    FullArchive,
    MemoryArchive,
)
from kite_replay.testing.deliveries import (
    DeliveryBehaviour,
    HeldConfigs,
    MemoryDeliveries,
    MemoryOrders,
)
from kite_replay.testing.paying import (
    FakeWallet,
    MemoryUsageLog,
)
from kite_replay.testing.records import (
    NOW_MS,
    ReadRecord,
    bad_record,
    batch,
    delivery_rows,
    event_id,
    event_record,
    event_rows,
    ledger_rows,
    query,
    usage_record,
)

__all__ = [
    "ArchiveBehaviour",
    "DeliveryBehaviour",
    "FakeWallet",
    "FullArchive",
    "HeldConfigs",
    "MemoryArchive",
    "MemoryDeliveries",
    "MemoryOrders",
    "MemoryUsageLog",
    "NOW_MS",
    "ReadRecord",
    "bad_record",
    "batch",
    "delivery_rows",
    "event_id",
    "event_record",
    "event_rows",
    "ledger_rows",
    "query",
    "usage_record",
]
