//! Statements of the book. Rows go in as one JSON array, so that a batch is one statement whatever its size.

use crate::db::Bulk;
use crate::db::dialect::Pair;

/// Waiting for a number.
pub const QUEUE: &str = "INSERT INTO audit_outbox (event_id, queued_at, place, body) VALUES ($1, $2, 0, $3)";
pub const WAITING: &str = "SELECT count(*) AS value FROM (SELECT 1 AS one FROM audit_outbox LIMIT 1) AS first";
pub const QUEUED: &str =
    "SELECT event_id, queued_at, body FROM audit_outbox ORDER BY queued_at, place, event_id LIMIT $1";
pub const DELETE_QUEUED: Pair = Pair {
    sqlite: "DELETE FROM audit_outbox WHERE event_id IN (SELECT unhex(value) FROM json_each($1))",
    postgres: "DELETE FROM audit_outbox WHERE event_id = ANY (ARRAY(SELECT value::uuid FROM jsonb_array_elements_text($1)))",
};

/// One writer at a time is how SQLite works; PostgreSQL keeps this lock until the transaction ends.
pub const LOCK_ORDER: Pair = Pair { sqlite: "SELECT 1", postgres: HOLD_DESK };
/// PostgreSQL: nobody numbers events until the transaction ends.
pub const HOLD_DESK: &str = "SELECT pg_advisory_xact_lock(7310579)";
pub const HEAD: &str = "SELECT log_id, size, logged_at, kept_from FROM audit_head";
pub const FIRST_HEAD: &str =
    "INSERT INTO audit_head (one, log_id, size, logged_at, kept_from) VALUES (1, $1, 0, $2, 0)";
pub const MOVE_HEAD: &str = "UPDATE audit_head SET size = $1, logged_at = $2";

pub const KNOWN_IDS: Pair = Pair {
    sqlite: "SELECT id, organization_id, sequence FROM audit_event WHERE id IN (SELECT unhex(value) FROM json_each($1))",
    postgres: "SELECT id, organization_id, sequence FROM audit_event
        WHERE id = ANY (ARRAY(SELECT value::uuid FROM jsonb_array_elements_text($1)))",
};

/// Partitions that cover the month, and all; bounds are told in UTC or not, the instants are the same.
pub const PARTITIONS_AT: &str = r"SELECT count(*) FILTER (WHERE NOT h.inhdetachpending
        AND (regexp_match(b.text, 'FROM \(''([^'']+)''\)'))[1]::timestamptz <= $1
        AND (regexp_match(b.text, 'TO \(''([^'']+)''\)'))[1]::timestamptz >= $2) AS covering, count(*) AS present
    FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
    CROSS JOIN LATERAL (SELECT coalesce(pg_get_expr(c.relpartbound, c.oid), '') AS text) b
    WHERE h.inhparent = 'audit_event'::regclass";

pub const EVENTS: Bulk<21> = Bulk(
    "audit_event (sequence, logged_at, occurred_at, id, organization_id, success, event_type, action, actor_type, actor_id,
        actor_name, resource_type, resource_id, resource_name, error_message, ip_address, user_agent, request_id, details,
        actor_seal, object_seal)",
);

/// Tiles of `[[level, place], …]`.
pub const TILES: Pair = Pair {
    sqlite: "SELECT t.level, t.place, t.hashes FROM json_each($1) w
        CROSS JOIN audit_tile t WHERE t.level = w.value ->> 0 AND t.place = w.value ->> 1",
    postgres: "SELECT t.level, t.place, t.hashes FROM jsonb_array_elements($1) w
        JOIN audit_tile t ON t.level = (w.value ->> 0)::bigint AND t.place = (w.value ->> 1)::bigint",
};
/// `[[level, place, hashes as hex], …]`.
pub const WRITE_TILES: Pair = Pair {
    sqlite: "INSERT INTO audit_tile (level, place, hashes)
        SELECT value ->> 0, value ->> 1, unhex(value ->> 2) FROM json_each($1) WHERE true
        ON CONFLICT (level, place) DO UPDATE SET hashes = excluded.hashes",
    postgres: "INSERT INTO audit_tile (level, place, hashes)
        SELECT (value ->> 0)::bigint, (value ->> 1)::bigint, decode(value ->> 2, 'hex') FROM jsonb_array_elements($1)
        ON CONFLICT (level, place) DO UPDATE SET hashes = excluded.hashes",
};

/// `[[organization, span, start, type, action, outcome, events], …]`.
pub const ADD_COUNTS: Pair = Pair {
    sqlite: "INSERT INTO audit_count (organization_id, span, starts_at, event_type, action, success, events)
        SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
        FROM json_each($1) WHERE true ON CONFLICT (organization_id, span, starts_at, event_type, action, success)
        DO UPDATE SET events = audit_count.events + excluded.events",
    postgres: "INSERT INTO audit_count (organization_id, span, starts_at, event_type, action, success, events)
        SELECT (value ->> 0)::uuid, value ->> 1, to_timestamp(0) + (value ->> 2)::bigint * interval '1 microsecond',
            value ->> 3, value ->> 4, (value ->> 5)::boolean, (value ->> 6)::bigint
        FROM jsonb_array_elements($1) ON CONFLICT (organization_id, span, starts_at, event_type, action, success)
        DO UPDATE SET events = audit_count.events + excluded.events",
};
/// `[[organization, month, kind, id, events, failures], …]`. PostgreSQL leaves the index of the list alone where `listed` stays as it
/// is; SQLite writes it whenever the column is named, so there `LIST_ACTORS` is a statement of its own.
pub const ADD_ACTORS: Pair = Pair {
    sqlite: "INSERT INTO audit_actor (organization_id, starts_at, actor_type, actor_id, events, failures, listed)
        SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 4
        FROM json_each($1) WHERE true ON CONFLICT (organization_id, starts_at, actor_type, actor_id)
        DO UPDATE SET events = audit_actor.events + excluded.events, failures = audit_actor.failures + excluded.failures",
    postgres: "INSERT INTO audit_actor (organization_id, starts_at, actor_type, actor_id, events, failures, listed)
        SELECT (value ->> 0)::uuid, to_timestamp(0) + (value ->> 1)::bigint * interval '1 microsecond', value ->> 2, value ->> 3,
            (value ->> 4)::bigint, (value ->> 5)::bigint, (value ->> 4)::bigint
        FROM jsonb_array_elements($1) ON CONFLICT (organization_id, starts_at, actor_type, actor_id)
        DO UPDATE SET events = audit_actor.events + excluded.events, failures = audit_actor.failures + excluded.failures,
            listed = CASE WHEN (audit_actor.events + excluded.events) * 8 > audit_actor.listed * 9
                THEN audit_actor.events + excluded.events ELSE audit_actor.listed END",
};
/// SQLite: those of `[[organization, month, kind, id], …]` that are listed too low: by more than one eighth.
pub const LIST_ACTORS: &str = "UPDATE audit_actor SET listed = events FROM json_each($1) w
    WHERE organization_id = unhex(w.value ->> 0) AND starts_at = w.value ->> 1 AND actor_type = w.value ->> 2
      AND actor_id = w.value ->> 3 AND events * 8 > listed * 9";
/// `[[start, first sequence], …]`.
pub const ADD_HOURS: Pair = Pair {
    sqlite: "INSERT INTO audit_hour (starts_at, first_sequence) SELECT value ->> 0, value ->> 1 FROM json_each($1) WHERE true
        ON CONFLICT (starts_at) DO NOTHING",
    postgres: "INSERT INTO audit_hour (starts_at, first_sequence)
        SELECT to_timestamp(0) + (value ->> 0)::bigint * interval '1 microsecond', (value ->> 1)::bigint
        FROM jsonb_array_elements($1) ON CONFLICT (starts_at) DO NOTHING",
};
pub const DISTINCT: &str =
    "SELECT actors AS value FROM audit_distinct WHERE organization_id = $1 AND starts_at >= $2 AND starts_at <= $3";
pub const DISTINCTS: &str = "SELECT starts_at, actors FROM audit_distinct
    WHERE organization_id = $1 AND starts_at >= $2 AND starts_at < $3";
pub const WRITE_DISTINCT: &str = "INSERT INTO audit_distinct (organization_id, starts_at, actors) VALUES ($1, $2, $3)
    ON CONFLICT (organization_id, starts_at) DO UPDATE SET actors = excluded.actors";
pub const COUNTS: &str = "SELECT starts_at, event_type, action, success, events FROM audit_count
    WHERE organization_id = $1 AND span = $2 AND starts_at >= $3 AND starts_at < $4
    ORDER BY starts_at, event_type, action, success";
pub const OWN_COUNTS: Pair = Pair {
    sqlite: "SELECT $3 AS starts_at, event_type, action, success, count(*) AS events FROM audit_event
        WHERE organization_id = $1 AND actor_id = $2 AND logged_at >= $3 AND logged_at < $4
        GROUP BY event_type, action, success ORDER BY event_type, action, success",
    postgres: "SELECT $3 AS starts_at, event_type, action, success, count(*) AS events FROM audit_event
        WHERE organization_id = $1 AND hashtextextended(actor_id, 0) = hashtextextended($2, 0) AND actor_id = $2
            AND logged_at >= $3 AND logged_at < $4
        GROUP BY event_type, action, success ORDER BY event_type, action, success",
};
/// Who has as many events as the last of the first $3 by list is listed at no less than eight ninths of that.
pub const TOP_ACTORS: &str = "SELECT actor_type, actor_id, events, failures FROM audit_actor
    WHERE organization_id = $1 AND starts_at = $2 AND listed >= coalesce((SELECT min(listed) * 8 / 9 - 1 FROM
        (SELECT listed FROM audit_actor WHERE organization_id = $1 AND starts_at = $2 ORDER BY listed DESC LIMIT $3) AS first), 0)
    ORDER BY events DESC, actor_id LIMIT $3";

/// Parts of a search.
pub const LIST: &str = "SELECT e.* FROM audit_event e";
pub const BEFORE: &str = " WHERE e.sequence < {}";
pub const FROM_PLACE: &str = " WHERE e.sequence >= {}";
/// SQLite only: by a term of the details.
pub const LIST_BY_TERM: &str =
    "SELECT e.* FROM audit_detail_segment s CROSS JOIN audit_detail_term t CROSS JOIN audit_event e";
pub const OF_TERM: &str = " WHERE t.segment = s.segment AND t.term = {}";
pub const AT_PLACE: &str = " AND e.sequence = s.segment * {} + t.place";
pub const FROM_SEGMENT: &str = " AND s.segment >= {}";
pub const UP_TO_SEGMENT: &str = " AND s.segment <= {}";
pub const AND_FROM: &str = " AND e.sequence >= {}";
pub const AND_BEFORE: &str = " AND e.sequence < {}";
/// PostgreSQL's indexes hold a hash of what is looked for.
pub const OF_PERSON: Pair = Pair {
    sqlite: " AND (e.actor_id = {} OR e.resource_id = {})",
    postgres: " AND (hashtextextended(e.actor_id, 0) = hashtextextended({}, 0) AND e.actor_id = {}
        OR hashtextextended(e.resource_id, 0) = hashtextextended({}, 0) AND e.resource_id = {})",
};
pub const OF_ORGANIZATION: Pair = Pair {
    sqlite: " AND e.organization_id = {}",
    postgres: " AND uuid_hash_extended(e.organization_id, 0) = uuid_hash_extended({}, 0) AND e.organization_id = {}",
};
/// Of an organization and a type: two parts, one behind the other.
pub const OF_ORGANIZATION_AND: Pair = Pair {
    sqlite: " AND e.organization_id = {}",
    postgres: " AND e.organization_id = {}
        AND uuid_hash_extended(e.organization_id, hashtextextended(e.event_type, 0)) = uuid_hash_extended({}, ",
};
pub const AND_TYPE: Pair =
    Pair { sqlite: " AND e.event_type = {}", postgres: "hashtextextended({}, 0)) AND e.event_type = {}" };
pub const OF_TYPE: &str = " AND e.event_type = {}";
pub const OF_ACTION: &str = " AND e.action = {}";
pub const OF_ACTOR: Pair = Pair {
    sqlite: " AND e.actor_id = {}",
    postgres: " AND hashtextextended(e.actor_id, 0) = hashtextextended({}, 0) AND e.actor_id = {}",
};
pub const OF_RESOURCE: Pair = Pair {
    sqlite: " AND e.resource_id = {}",
    postgres: " AND hashtextextended(e.resource_id, 0) = hashtextextended({}, 0) AND e.resource_id = {}",
};
pub const OF_OUTCOME: &str = " AND e.success = {}";
/// The hours tell where to begin; the months, which partitions.
pub const SINCE: &str = " AND e.logged_at >= {} AND e.sequence >= coalesce(
    (SELECT first_sequence FROM audit_hour WHERE starts_at <= {} ORDER BY starts_at DESC LIMIT 1), 0)";
pub const UNTIL: &str = " AND e.logged_at < {} AND e.sequence < coalesce(
    (SELECT first_sequence FROM audit_hour WHERE starts_at >= {} ORDER BY starts_at LIMIT 1), 9223372036854775807)";
/// Beside details, PostgreSQL has their index, and would read a month's numbers as well if it were told of them; on SQLite the places
/// are known before (`PLACES_BETWEEN`).
pub const SINCE_BESIDE_DETAILS: &str = " AND e.logged_at >= {}";
pub const UNTIL_BESIDE_DETAILS: &str = " AND e.logged_at < {}";
pub const FROM_ADDRESS: &str = " AND e.ip_address = {}";
/// Of a–z alone the case does not count: so it is on SQLite, whatever the language, and so PostgreSQL is asked to have it.
pub const WITH_TEXT: Pair = Pair {
    sqlite: " AND (lower(e.action) LIKE {} ESCAPE '\\' OR lower(e.actor_id) LIKE {} ESCAPE '\\'
        OR lower(e.actor_name) LIKE {} ESCAPE '\\' OR lower(e.resource_id) LIKE {} ESCAPE '\\'
        OR lower(e.resource_name) LIKE {} ESCAPE '\\' OR lower(e.error_message) LIKE {} ESCAPE '\\')",
    postgres: " AND (lower(e.action COLLATE \"C\") LIKE {} ESCAPE '\\' OR lower(e.actor_id COLLATE \"C\") LIKE {} ESCAPE '\\'
        OR lower(e.actor_name COLLATE \"C\") LIKE {} ESCAPE '\\' OR lower(e.resource_id COLLATE \"C\") LIKE {} ESCAPE '\\'
        OR lower(e.resource_name COLLATE \"C\") LIKE {} ESCAPE '\\' OR lower(e.error_message COLLATE \"C\") LIKE {} ESCAPE '\\')",
};
/// SQLite leaves out what cannot contain it: details without one of the parts, wherever it stands. What is left is decided by
/// keyward-core, `contained`. Numbers are compared as those between which it does not tell a difference.
pub const CONTAINS: Pair = Pair {
    sqlite: " AND NOT EXISTS (SELECT 1 FROM json_tree({}) w WHERE NOT EXISTS (SELECT 1 FROM json_tree(e.details) d
        WHERE (d.key IS w.key OR typeof(w.key) = 'integer') AND CASE WHEN w.type IN ('integer', 'real')
            THEN d.type IN ('integer', 'real') AND d.atom + 0.0 = w.atom + 0.0 ELSE d.type = w.type AND d.atom IS w.atom END))",
    postgres: " AND e.details @> {}",
};
pub const NEWEST_FIRST: &str = " ORDER BY e.sequence DESC LIMIT {}";
pub const OLDEST_FIRST: &str = " ORDER BY e.sequence LIMIT {}";
/// The same order, as SQLite finds terms.
pub const NEWEST_TERM_FIRST: &str = " ORDER BY s.segment DESC, t.place DESC LIMIT {}";
pub const OLDEST_TERM_FIRST: &str = " ORDER BY s.segment, t.place LIMIT {}";

/// What may lie between two instants: the first place, and the one after the last.
pub const PLACES_BETWEEN: &str = "SELECT coalesce((SELECT first_sequence FROM audit_hour WHERE starts_at <= $1
        ORDER BY starts_at DESC LIMIT 1), 0) AS first,
    coalesce((SELECT first_sequence FROM audit_hour WHERE starts_at >= $2 ORDER BY starts_at LIMIT 1),
        9223372036854775807) AS last";
/// Of a list of terms, the one that the fewest events between two segments have, which are counted no further than to $4.
pub const RAREST: &str = "SELECT w.value AS term, (SELECT count(*) FROM (SELECT 1 FROM audit_detail_segment s
        CROSS JOIN audit_detail_term t WHERE s.segment BETWEEN $2 AND $3 AND t.segment = s.segment AND t.term = w.value LIMIT $4)) AS events
    FROM json_each($1) w ORDER BY events LIMIT 1";
pub const INDEXED_UNTIL: &str = "SELECT coalesce((SELECT segment * $1 + events FROM audit_detail_segment
    ORDER BY segment DESC LIMIT 1), 0) AS value";
pub const DETAILS: &str =
    "SELECT sequence, details FROM audit_event WHERE sequence >= $1 AND sequence < $2 ORDER BY sequence";
pub const TERMS: Bulk<3> = Bulk("audit_detail_term (segment, term, place)");
pub const WRITE_SEGMENT: &str = "INSERT INTO audit_detail_segment (segment, events) VALUES ($1, $2)
    ON CONFLICT (segment) DO UPDATE SET events = excluded.events";
/// `[[segment, term, place], …]`.
pub const DELETE_TERMS: &str = "DELETE FROM audit_detail_term WHERE (segment, term, place) IN
    (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1))";

pub const GET: &str = "SELECT e.* FROM audit_event e WHERE id = $1 ORDER BY sequence";
pub const EVENTS_FROM: &str = "SELECT e.* FROM audit_event e WHERE sequence >= $1 AND sequence < $2 ORDER BY sequence";
/// What leaves are made from, in the order in which `rehash` reads it. It also puts the rows in their order: they are nearly so.
pub const LEAVES: &str = "SELECT sequence, id, organization_id, event_type, action, success, actor_type, resource_type, request_id,
        occurred_at, logged_at, actor_id, actor_name, ip_address, user_agent, actor_seal, resource_id, resource_name, error_message,
        details, object_seal
    FROM audit_event WHERE sequence >= $1 AND sequence < $2";
/// Events between two places whose id another organization used before.
pub const NAMESAKES: &str = "SELECT e.sequence AS value FROM audit_event e WHERE e.sequence >= $1 AND e.sequence < $2
    AND EXISTS (SELECT 1 FROM audit_event o WHERE o.id = e.id AND o.sequence < e.sequence)";
/// An event before the first.
pub const ROW_BEFORE: &str = "SELECT id AS value FROM audit_event WHERE sequence < 0 ORDER BY sequence LIMIT 1";
/// The last event from a place on.
pub const LAST_SINCE: &str = "SELECT id, sequence FROM audit_event WHERE sequence >= $1 ORDER BY sequence DESC LIMIT 1";

pub const FIRST_SINCE: &str =
    "SELECT first_sequence AS value FROM audit_hour WHERE starts_at >= $1 ORDER BY starts_at LIMIT 1";
pub const KEEP_FROM: &str = "UPDATE audit_head SET kept_from = $1 WHERE kept_from < $1";
/// SQLite only; elsewhere whole months go. The details that go, the events, and the segments of which nothing is left.
pub const RETIRED_DETAILS: &str =
    "SELECT sequence, details FROM audit_event WHERE sequence < $1 ORDER BY sequence LIMIT $2";
pub const DELETE_RETIRED_SEGMENTS: &str = "DELETE FROM audit_detail_segment WHERE segment < $1";
pub const DELETE_RETIRED: &str = "DELETE FROM audit_event WHERE sequence IN
    (SELECT sequence FROM audit_event WHERE sequence < $1 ORDER BY sequence LIMIT $2)";

pub const OF_SUBJECT: Pair = Pair {
    sqlite: "SELECT e.* FROM audit_event e WHERE organization_id = $1 AND (actor_id = $2 OR resource_id = $2)
        ORDER BY sequence LIMIT $3",
    postgres: "SELECT e.* FROM audit_event e WHERE organization_id = $1
        AND (hashtextextended(actor_id, 0) = hashtextextended($2, 0) AND actor_id = $2
            OR hashtextextended(resource_id, 0) = hashtextextended($2, 0) AND resource_id = $2)
        ORDER BY sequence LIMIT $3",
};
pub const ERASE_ACTOR: &str =
    "UPDATE audit_event SET actor_id = '', actor_name = NULL, ip_address = NULL, user_agent = NULL,
    actor_seal = $3 WHERE sequence = $1 AND logged_at = $2";
pub const ERASE_OBJECT: &str =
    "UPDATE audit_event SET resource_id = '', resource_name = NULL, error_message = NULL, details = $4,
    object_seal = $3 WHERE sequence = $1 AND logged_at = $2";
pub const FORGET_ACTOR: &str = "DELETE FROM audit_actor WHERE organization_id = $1 AND actor_id = $2";
