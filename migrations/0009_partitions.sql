-- Partitions that left their table: each with the archive that it was copied to and read back from before.
CREATE TABLE partition_archive (
    name {word} PRIMARY KEY,
    table_name {word} NOT NULL,
    from_at {time},
    to_at {time} NOT NULL,
    row_count {int} NOT NULL,
    sha256 TEXT NOT NULL,
    path TEXT NOT NULL,
    archived_at {time} NOT NULL,
    dropped_at {time}
) {strict};
