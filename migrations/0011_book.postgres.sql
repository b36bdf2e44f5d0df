-- The book in its lasting form: events stand in the one order of the whole instance, by month, hashed into a tree whose tiles are
-- kept beside them (C2SP tlog-tiles), with the sums that reports read. What was in the book before waits to be numbered again, in
-- its old order. Partitions are made when the first event of a month comes, and ahead of time by the partitions job.
CREATE TABLE audit_outbox_new (
    event_id uuid PRIMARY KEY,
    queued_at timestamptz NOT NULL,
    place bigint NOT NULL,
    body jsonb NOT NULL
);

INSERT INTO audit_outbox_new (event_id, queued_at, place, body)
    SELECT e.id, e.logged_at, coalesce(l.sequence, 0), jsonb_build_object('event_type', e.event_type, 'action', e.action,
        'actor_type', e.actor_type, 'actor_id', e.actor_id, 'actor_name', e.actor_name, 'resource_type', e.resource_type,
        'resource_id', e.resource_id, 'resource_name', e.resource_name, 'success', e.success, 'error_message', e.error_message,
        'details', e.details, 'ip_address', e.ip_address, 'user_agent', e.user_agent,
        'organization_id', replace(e.organization_id::text, '-', ''), 'request_id', e.request_id,
        'occurred_at', (extract(epoch FROM e.occurred_at) * 1000000)::bigint)
    FROM audit_event e LEFT JOIN audit_leaf l ON l.event_id = e.id;

DROP TABLE audit_outbox;
DROP TABLE audit_leaf;
DROP TABLE audit_event;
ALTER TABLE audit_outbox_new RENAME TO audit_outbox;
ALTER INDEX audit_outbox_new_pkey RENAME TO audit_outbox_pkey;

CREATE TABLE audit_event (
    sequence bigint NOT NULL,
    logged_at timestamptz NOT NULL,
    occurred_at timestamptz NOT NULL,
    id uuid NOT NULL,
    organization_id uuid,
    success boolean NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    actor_type text COLLATE "C" NOT NULL,
    actor_id text COLLATE "C" NOT NULL,
    actor_name text,
    resource_type text COLLATE "C" NOT NULL,
    resource_id text COLLATE "C" NOT NULL,
    resource_name text,
    error_message text,
    ip_address text COLLATE "C",
    user_agent text,
    request_id text COLLATE "C",
    details jsonb NOT NULL,
    -- Random bytes under which the two parts that can be erased are committed to; once erased, the commitment itself.
    actor_seal bytea NOT NULL,
    object_seal bytea NOT NULL,
    PRIMARY KEY (sequence, logged_at)
) PARTITION BY RANGE (logged_at);

CREATE INDEX audit_event_by_id ON audit_event (id);
CREATE INDEX audit_event_by_organization ON audit_event (organization_id, sequence);
CREATE INDEX audit_event_by_type ON audit_event (organization_id, event_type, sequence);
CREATE INDEX audit_event_by_actor ON audit_event (actor_id, sequence);
CREATE INDEX audit_event_by_resource ON audit_event (resource_id, sequence);
CREATE INDEX audit_event_by_time ON audit_event USING brin (logged_at) WITH (pages_per_range = 32);

CREATE FUNCTION audit_event_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (NEW.sequence, NEW.logged_at, NEW.occurred_at, NEW.id, NEW.success, NEW.event_type, NEW.action, NEW.actor_type,
                NEW.resource_type)
            = (OLD.sequence, OLD.logged_at, OLD.occurred_at, OLD.id, OLD.success, OLD.event_type, OLD.action, OLD.actor_type,
                OLD.resource_type)
            AND NEW.organization_id IS NOT DISTINCT FROM OLD.organization_id
            AND NEW.request_id IS NOT DISTINCT FROM OLD.request_id
            AND ((NEW.actor_seal, NEW.actor_id, NEW.actor_name, NEW.ip_address, NEW.user_agent)
                    IS NOT DISTINCT FROM (OLD.actor_seal, OLD.actor_id, OLD.actor_name, OLD.ip_address, OLD.user_agent)
                OR octet_length(OLD.actor_seal) = 16 AND octet_length(NEW.actor_seal) = 32 AND NEW.actor_id = ''
                    AND coalesce(NEW.actor_name, NEW.ip_address, NEW.user_agent) IS NULL)
            AND ((NEW.object_seal, NEW.resource_id, NEW.resource_name, NEW.error_message, NEW.details)
                    IS NOT DISTINCT FROM (OLD.object_seal, OLD.resource_id, OLD.resource_name, OLD.error_message, OLD.details)
                OR octet_length(OLD.object_seal) = 16 AND octet_length(NEW.object_seal) = 32 AND NEW.resource_id = ''
                    AND coalesce(NEW.resource_name, NEW.error_message) IS NULL AND NEW.details = '{}')
        THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'events of the book are never changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RAISE EXCEPTION 'events of the book are never taken out' USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER audit_event_is_kept BEFORE UPDATE OR DELETE ON audit_event FOR EACH ROW EXECUTE FUNCTION audit_event_is_kept();
CREATE TRIGGER audit_event_is_not_emptied BEFORE TRUNCATE ON audit_event EXECUTE FUNCTION audit_event_is_kept();

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
