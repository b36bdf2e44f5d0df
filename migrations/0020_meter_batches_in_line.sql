-- Batches that wait to be sorted, and parts that wait to be added, are found without looking at the others.
CREATE INDEX meter_batch_waiting ON meter_batch (written_at, id, entry_count) WHERE NOT is_part;
CREATE INDEX meter_batch_parts ON meter_batch (id) WHERE is_part;
