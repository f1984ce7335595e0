"""What stands where in Redis: the contract between billing, which projects accounts, and the gateway, which admits.

All keys of one team share the hash slot `{team_id}`, so one script may touch them all. Nothing here talks to Redis.

    kite:{team}:account       hash   the projected account; fields below; written by billing behind the fence `applied`; and `changing`,
                                     "<Redis time in ms> <1: nothing is admitted meanwhile> <command id>", behind it " +" once several
                                     have begun it: a change of the subscription is under way; set by the gateway that sends it,
                                     removed by it or when the change is projected
    kite:{team}:reservations  zset   event id -> Redis time in ms at which it was reserved; written by admission,
                                     removed by billing when the usage is in the ledger, or when it has lapsed
    kite:{team}:replays       zset   usage id of a page taken from the wallet -> Redis time in ms at which it was reserved; written by
                                     replay, removed as reservations are; not counted by quotas
    kite:{team}:reserved      hash   event id or usage id -> "<amount> <utc day> <period start>", and `total`: sum of the amounts
    kite:{team}:bucket        hash   token bucket: t (tokens), ts (ms); expires when full again
    kite:client:<client>      hash   the same for a client address
    kite:{team}:idem:<claim>  hash   an Idempotency-Key, a payment, or a delivery to a hook: state in_flight|accepted, body (hash
                                     of what came with an Idempotency-Key), event_id and the first answer
    kite:stream-time          hash   partition -> ms: every record of kite.events appended before it has been applied
    kite:projected            hash   partition -> applied: up to there the partition's accounts are projected (0 = they are being
                                     written for the first time; missing after a wipe, and while billing waits because of one);
                                     <partition>:server -> the server process that was told so: on another one, which may hold an
                                     older copy, nobody is admitted; <partition>:restored while claims are read back from the log
    kite:quiet                string a server process's id: whoever was admitted by an earlier one is in the log already; written by
                                     who knows it, such as the local stack, before any service is started
    kite:rebuild              hash   `kitectl rebuild redis` has taken the marks of kite:projected away: `began`, and partition -> applied
                                     as it was then; removed when all of them are back
    kite:payment-outcome:<id> string what became of a payment's submission, for a short time; wakes waiters on the same channel
    kite:outcome:<command>    string what became of a command, for a short time; a message on channel kite:outcomes wakes waiters

A reservation counts as pending usage until billing has settled it. It lapses, and its money is free again, once stream time
has passed its own time by more than LAPSE_MS: then its event is provably not in the log (architecture, section 3). So does `changing`.

A field that is added goes to the end of ACCOUNT_FIELDS: what an older billing projected is written anew when the last one is missing there,
and until then readers of the new fields must take their absence for "not known".
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
# Billing lets the work of a payment be repeated for a day from its credit on. The claim, which is made later, must outlive that in spite of
# two clocks and of a repeat that takes its time: an hour covers both by far.
PAYMENT_CLAIM_TTL_S: Final = IDEMPOTENCY_TTL_S + 3_600

# Fields of kite:{team}:account. All integers but status, provider, subscription, plan. Unlimited = money.UNLIMITED; of rate and
# max_payload, 0. `price` and `replay_price` are what is taken from the wallet, 0 on flat plans; `monthly` is what the plan costs outside.
ACCOUNT_FIELDS: Final = (
    "applied", "status", "provider", "subscription", "plan_id", "plan_name", "rate_per_min", "price", "month_limit", "day_limit",
    "period_start", "period_end", "used", "charged", "day", "day_used", "balance", "replay_price",
    "max_payload", "sources_limit", "monthly", "debt", "revision",
)  # fmt: skip
CHANGING: Final = "changing"
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


def replays(team: TeamId) -> str:
    """Sorted set: pending usages of replayed pages by the time they were reserved."""
    return f"kite:{{{team}}}:replays"


def reserved(team: TeamId) -> str:
    """Hash: what each pending event and replayed page holds, and the total."""
    return f"kite:{{{team}}}:reserved"


def bucket(team: TeamId) -> str:
    """Hash: the team's token bucket."""
    return f"kite:{{{team}}}:bucket"


def idempotency(team: TeamId, claim: str) -> str:
    """Hash: one claim; `claim` is a digest of what is claimed, so any header text makes a fixed-size key."""
    return f"kite:{{{team}}}:idem:{claim}"


def client_bucket(client: str) -> str:
    """Hash: the token bucket of a client address on routes without bearer; `client` is a digest of the address."""
    return f"kite:client:{client}"


def payment_outcome(submission_id: str) -> str:
    """String: what became of a payment's submission, as JSON; a message on OUTCOME_CHANNEL with the submission id wakes waiters."""
    return f"kite:payment-outcome:{submission_id}"


def outcome(command: CommandId) -> str:
    """String: the outcome of a command, as JSON."""
    return f"kite:outcome:{command}"
