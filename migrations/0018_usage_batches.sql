-- What a batch of records adds to the sums, written with it and not yet added: one row a batch, however many sums it changes.
-- Adding reads, adds and deletes them in one transaction.
CREATE TABLE usage_batch (
    organization_id {id} NOT NULL,
    id {id} NOT NULL,
    sums {bytes} NOT NULL,
    PRIMARY KEY (organization_id, id)
) {strict};
