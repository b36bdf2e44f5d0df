-- Counts of verifications as nodes wrote them, not yet added to verify_count: one row a flush, so that what must be durable
-- within a second costs one row, however many keys were verified. Folding reads, adds and deletes them in one transaction.
CREATE TABLE meter_batch (
    id {id} PRIMARY KEY,
    written_at {time} NOT NULL,
    entry_count {int} NOT NULL,
    -- Whether its counts were sorted out already, and it is small enough to be added in one transaction.
    is_part {bool} NOT NULL,
    counts {bytes} NOT NULL
) {strict};
