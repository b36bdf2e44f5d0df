-- What nodes on one PostgreSQL tell each other. Ordered by transaction, so that a reader who remembers the oldest
-- transaction still running (pg_snapshot_xmin) misses nothing that commits late.
CREATE TABLE announcement (
    id uuid PRIMARY KEY,
    txid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    subject text NOT NULL,
    wants_acknowledgement boolean NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE INDEX announcement_by_transaction ON announcement (txid);
CREATE INDEX announcement_by_time ON announcement (created_at);

-- A node counts its beats; one whose count stands still has stopped serving from memory (docs/concepts/revocation.md).
CREATE TABLE node (
    id uuid PRIMARY KEY,
    beat bigint NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
);

CREATE TABLE acknowledgement (
    announcement_id uuid NOT NULL REFERENCES announcement (id) ON DELETE CASCADE,
    node_id uuid NOT NULL,
    PRIMARY KEY (announcement_id, node_id)
);
