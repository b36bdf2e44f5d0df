-- The order of the book. An event's row in the outbox is written with the event; the sequencer, one at a time in the whole
-- instance, gives each event its number and the hash of what it says (RFC 6962, 2.1), and takes the row away.
CREATE TABLE audit_outbox (
    event_id {id} PRIMARY KEY,
    logged_at {time} NOT NULL,
    -- Among those that were sent together.
    place {int} NOT NULL
) {strict};

CREATE TABLE audit_leaf (
    sequence {int} PRIMARY KEY,
    event_id {id} NOT NULL,
    hash {bytes} NOT NULL
) {strict};

CREATE UNIQUE INDEX audit_leaf_event_key ON audit_leaf (event_id);

INSERT INTO audit_outbox (event_id, logged_at, place) SELECT id, logged_at, 0 FROM audit_event;
