-- How far each sink, another system that events of the book are sent to, has got. The book itself is what waits; a row here only
-- says where the next event stands, which node delivers at present, and what it last saw.
CREATE TABLE sink_cursor (
    name {word} PRIMARY KEY,
    next_sequence {int} NOT NULL,
    -- The node that delivers; when its lease runs out, another takes over.
    holder {id},
    lease_until {time},
    -- The newest checkpoint that the sink has.
    checkpoint_size {int} NOT NULL,
    checkpoint_at {time},
    -- Events that were passed over, of which the sink is still to be told.
    gap_from {int},
    gap_to {int},
    gap_count {int},
    gap_reason TEXT,
    delivered_count {int} NOT NULL,
    -- In a row, since the last success; nobody tries before retry_at.
    failure_count {int} NOT NULL,
    retry_at {time},
    succeeded_at {time},
    failed_at {time},
    error TEXT
) {strict};
