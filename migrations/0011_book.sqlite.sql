-- The book in its lasting form: events stand in the one order of the whole instance, hashed into a tree whose tiles are kept beside
-- them (C2SP tlog-tiles), with the sums that reports read. What was in the book before waits to be numbered again, in its old order.
CREATE TABLE audit_outbox_new (
    event_id BLOB PRIMARY KEY,
    queued_at INTEGER NOT NULL,
    place INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

INSERT INTO audit_outbox_new (event_id, queued_at, place, body)
    SELECT e.id, e.logged_at, coalesce(l.sequence, 0), json_object('event_type', e.event_type, 'action', e.action,
        'actor_type', e.actor_type, 'actor_id', e.actor_id, 'actor_name', e.actor_name, 'resource_type', e.resource_type,
        'resource_id', e.resource_id, 'resource_name', e.resource_name,
        'success', json(CASE WHEN e.success THEN 'true' ELSE 'false' END), 'error_message', e.error_message,
        'details', json(e.details), 'ip_address', e.ip_address, 'user_agent', e.user_agent,
        'organization_id', nullif(lower(hex(e.organization_id)), ''), 'request_id', e.request_id, 'occurred_at', e.occurred_at)
    FROM audit_event e LEFT JOIN audit_leaf l ON l.event_id = e.id;

DROP TABLE audit_outbox;
DROP TABLE audit_leaf;
DROP TABLE audit_event;
ALTER TABLE audit_outbox_new RENAME TO audit_outbox;

CREATE TABLE audit_event (
    sequence INTEGER PRIMARY KEY,
    logged_at INTEGER NOT NULL,
    occurred_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    organization_id BLOB,
    success INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    action TEXT NOT NULL,
    actor_type TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    actor_name TEXT,
    resource_type TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    resource_name TEXT,
    error_message TEXT,
    ip_address TEXT,
    user_agent TEXT,
    request_id TEXT,
    details TEXT NOT NULL,
    -- Random bytes under which the two parts that can be erased are committed to; once erased, the commitment itself.
    actor_seal BLOB NOT NULL,
    object_seal BLOB NOT NULL
) STRICT;

CREATE INDEX audit_event_by_id ON audit_event (id);
CREATE INDEX audit_event_by_organization ON audit_event (organization_id, sequence);
CREATE INDEX audit_event_by_type ON audit_event (organization_id, event_type, sequence);
CREATE INDEX audit_event_by_actor ON audit_event (actor_id, sequence);
CREATE INDEX audit_event_by_resource ON audit_event (resource_id, sequence);

CREATE TRIGGER audit_event_is_kept BEFORE DELETE ON audit_event
    WHEN OLD.sequence >= coalesce((SELECT kept_from FROM audit_head), 0)
    BEGIN SELECT raise(ABORT, 'events of the book are never taken out'); END;

CREATE TRIGGER audit_event_is_unchanged BEFORE UPDATE ON audit_event
    WHEN NOT (
        NEW.sequence = OLD.sequence AND NEW.logged_at = OLD.logged_at AND NEW.occurred_at = OLD.occurred_at AND NEW.id = OLD.id
        AND NEW.organization_id IS OLD.organization_id AND NEW.success = OLD.success AND NEW.event_type = OLD.event_type
        AND NEW.action = OLD.action AND NEW.actor_type = OLD.actor_type AND NEW.resource_type = OLD.resource_type
        AND NEW.request_id IS OLD.request_id
        AND (NEW.actor_seal = OLD.actor_seal AND NEW.actor_id = OLD.actor_id AND NEW.actor_name IS OLD.actor_name
                AND NEW.ip_address IS OLD.ip_address AND NEW.user_agent IS OLD.user_agent
            OR length(OLD.actor_seal) = 16 AND length(NEW.actor_seal) = 32 AND NEW.actor_id = ''
                AND coalesce(NEW.actor_name, NEW.ip_address, NEW.user_agent) IS NULL)
        AND (NEW.object_seal = OLD.object_seal AND NEW.resource_id = OLD.resource_id AND NEW.resource_name IS OLD.resource_name
                AND NEW.error_message IS OLD.error_message AND NEW.details = OLD.details
            OR length(OLD.object_seal) = 16 AND length(NEW.object_seal) = 32 AND NEW.resource_id = ''
                AND coalesce(NEW.resource_name, NEW.error_message) IS NULL AND NEW.details = '{}'))
    BEGIN SELECT raise(ABORT, 'events of the book are never changed'); END;

-- The end of the book: one row.
CREATE TABLE audit_head (
    one {int} PRIMARY KEY CHECK (one = 1),
    log_id {id} NOT NULL,
    size {int} NOT NULL,
    logged_at {time} NOT NULL,
    -- Earlier events were retired.
    kept_from {int} NOT NULL
) {strict};

-- Up to 256 hashes of one level of the tree, side by side; the last tile of a level grows.
CREATE TABLE audit_tile (
    level {int} NOT NULL,
    place {int} NOT NULL,
    hashes {bytes} NOT NULL,
    PRIMARY KEY (level, place)
) {strict};

-- Where each hour of the book begins: an instant is found without an index of all instants.
CREATE TABLE audit_hour (
    starts_at {time} PRIMARY KEY,
    first_sequence {int} NOT NULL
) {strict};

-- Events by day and by month (UTC, when they were logged), written with them. The nil organization is the instance itself.
CREATE TABLE audit_count (
    organization_id {id} NOT NULL,
    span {word} NOT NULL,
    starts_at {time} NOT NULL,
    event_type {word} NOT NULL,
    action {word} NOT NULL,
    success {bool} NOT NULL,
    events {int} NOT NULL,
    PRIMARY KEY (organization_id, span, starts_at, event_type, action, success)
) {strict};

-- How many different actors a day had: a sketch (keyward-core, `distinct`).
CREATE TABLE audit_distinct (
    organization_id {id} NOT NULL,
    starts_at {time} NOT NULL,
    actors {bytes} NOT NULL,
    PRIMARY KEY (organization_id, starts_at)
) {strict};

-- What each actor did in a month.
CREATE TABLE audit_actor (
    organization_id {id} NOT NULL,
    starts_at {time} NOT NULL,
    actor_type {word} NOT NULL,
    actor_id {word} NOT NULL,
    events {int} NOT NULL,
    failures {int} NOT NULL,
    -- What `events` were when the list of the busiest last learned of them: never more than an eighth behind, so that the list's
    -- index is seldom written.
    listed {int} NOT NULL,
    PRIMARY KEY (organization_id, starts_at, actor_type, actor_id)
) {strict};

CREATE INDEX audit_actor_by_events ON audit_actor (organization_id, starts_at, listed);

-- The key that signs checkpoints, sealed under the instance's peppers; and what was signed, the latest with the witnesses' lines.
CREATE TABLE audit_signer (
    one {int} PRIMARY KEY CHECK (one = 1),
    -- The name of the log.
    origin TEXT NOT NULL,
    sealed {bytes} NOT NULL,
    created_at {time} NOT NULL
) {strict};

CREATE TABLE audit_checkpoint (
    size {int} PRIMARY KEY,
    note TEXT NOT NULL,
    signed_at {time} NOT NULL
) {strict};
