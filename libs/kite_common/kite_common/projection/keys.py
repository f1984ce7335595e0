"""What stands where in Redis: the contract between billing, which projects accounts, and the gateway, which admits.

All keys of one team share the hash slot `{team_id}`, so one script may touch them all. Nothing here talks to Redis.

    kite:{team}:account       hash   the projected account; fields below; written by billing behind the fence `applied`
    kite:{team}:reservations  zset   event id -> Redis time in ms at which it was reserved; written by admission,
                                     removed by billing when the usage is in the ledger, or when it has lapsed
    kite:{team}:reserved      hash   event id -> "<amount> <utc day> <period start>", and `total`: sum of the amounts
    kite:{team}:bucket        hash   token bucket: t (tokens), ts (ms); expires when full again
    kite:{team}:idem:<claim>  hash   an Idempotency-Key: state in_flight|accepted, body (hash), event_id and the first answer
    kite:stream-time          hash   partition -> ms: every record of kite.events appended before it has been applied
    kite:projected            hash   partition -> applied: up to there the partition's accounts are projected (0 = they are being
                                     written for the first time; missing after a wipe, and while billing waits because of one);
                                     <partition>:server -> the server process that was told so: on another one, which may hold an
                                     older copy, nobody is admitted; <partition>:restored while claims are read back from the log
    kite:quiet                string a server process's id: whoever was admitted by an earlier one is in the log already; written by
                                     who knows it, such as the local stack, before any service is started
    kite:outcome:<command>    string what became of a command, for a short time; a message on channel kite:outcomes wakes waiters

A reservation counts as pending usage until billing has settled it. It lapses, and its money is free again, once stream time
has passed its own time by more than LAPSE_MS: then its event is provably not in the log (architecture, section 3).
"""

from typing import Final

from kite_common.ids import CommandId, TeamId

# The gateway gives up a publish at most PUBLISH_TIMEOUT_MS after the request and drops the producer, so nothing is appended later. The rest
# of LAPSE_MS covers records that a leader holds and nobody can read yet (replica.lag.time.max.ms, 30 s), and clocks that differ between
# Redis, billing and the brokers.
PUBLISH_TIMEOUT_MS: Final = 12_000
LAPSE_MS: Final = 90_000

STREAM_TIME: Final = "kite:stream-time"
PROJECTED: Final = "kite:projected"
QUIET: Final = "kite:quiet"
OUTCOME_CHANNEL: Final = "kite:outcomes"
OUTCOME_TTL_S: Final = 60
IDEMPOTENCY_TTL_S: Final = 86_400

# Fields of kite:{team}:account. All integers but status, provider, subscription, plan. Unlimited = money.UNLIMITED; rate 0 = unlimited.
ACCOUNT_FIELDS: Final = (
    "applied", "status", "provider", "subscription", "plan_id", "plan_name", "rate_per_min", "price", "month_limit", "day_limit",
    "period_start", "period_end", "used", "charged", "day", "day_used", "balance",
)  # fmt: skip
NO_SUBSCRIPTION: Final = "none"


def server_field(partition: int) -> str:
    """Field of PROJECTED: the id of the server process that holds what is projected of the partition."""
    return f"{partition}:server"


def account(team: TeamId) -> str:
    """Hash: the projected account."""
    return f"kite:{{{team}}}:account"


def reservations(team: TeamId) -> str:
    """Sorted set: pending event ids by the time they were reserved."""
    return f"kite:{{{team}}}:reservations"


def reserved(team: TeamId) -> str:
    """Hash: what each pending event holds, and the total."""
    return f"kite:{{{team}}}:reserved"


def bucket(team: TeamId) -> str:
    """Hash: the team's token bucket."""
    return f"kite:{{{team}}}:bucket"


def idempotency(team: TeamId, claim: str) -> str:
    """Hash: one claim; `claim` is a digest of scope and key, so any header text makes a fixed-size key."""
    return f"kite:{{{team}}}:idem:{claim}"


def outcome(command: CommandId) -> str:
    """String: the outcome of a command, as JSON."""
    return f"kite:outcome:{command}"
