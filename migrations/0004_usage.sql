-- What was reported of the use of keys, what was counted of their verifications, and the sums over both.
-- {word} is text that is compared byte by byte; {by_block} makes an index that keeps one line for many rows, where there is such.

-- One reported call. record_id is the reporter's own, and what makes a repeated report count once. Costs are in
-- billionths of a US dollar.
CREATE TABLE usage_record (
    organization_id {id} NOT NULL,
    record_id {word} NOT NULL,
    key_id {id} NOT NULL,
    occurred_at {time} NOT NULL,
    endpoint TEXT NOT NULL,
    method TEXT NOT NULL,
    status {int} NOT NULL,
    duration_micros {int},
    request_bytes {int} NOT NULL,
    response_bytes {int} NOT NULL,
    tokens_in {int} NOT NULL,
    tokens_out {int} NOT NULL,
    cost_nanos {int} NOT NULL,
    ip TEXT,
    user_agent TEXT,
    error TEXT,
    PRIMARY KEY (organization_id, record_id)
) {strict};

-- For the reports of those who see only their own keys, and for retention.
CREATE INDEX usage_record_by_key ON usage_record (key_id, occurred_at);
CREATE INDEX usage_record_by_time ON usage_record {by_block} (occurred_at);

-- Sums over the records of a minute, hour, day or month. A key_id of zeros stands for all keys, an empty route for all
-- routes. durations is a sketch (docs/decisions/0007-rollups-and-sketches.md).
CREATE TABLE usage_rollup (
    organization_id {id} NOT NULL,
    level {word} NOT NULL,
    starts_at {time} NOT NULL,
    key_id {id} NOT NULL,
    route {word} NOT NULL,
    calls {int} NOT NULL,
    client_errors {int} NOT NULL,
    server_errors {int} NOT NULL,
    request_bytes {int} NOT NULL,
    response_bytes {int} NOT NULL,
    tokens_in {int} NOT NULL,
    tokens_out {int} NOT NULL,
    cost_nanos {int} NOT NULL,
    durations {bytes} NOT NULL,
    PRIMARY KEY (organization_id, level, starts_at, key_id, route)
) {strict};

CREATE INDEX usage_rollup_by_age ON usage_rollup (level, starts_at);

-- Failed calls of a day by status and reported text.
CREATE TABLE usage_error (
    organization_id {id} NOT NULL,
    starts_at {time} NOT NULL,
    key_id {id} NOT NULL,
    status {int} NOT NULL,
    error {word} NOT NULL,
    calls {int} NOT NULL,
    PRIMARY KEY (organization_id, starts_at, key_id, status, error)
) {strict};

CREATE INDEX usage_error_by_age ON usage_error (starts_at);

-- Verifications by outcome. Zeros for key_id and secret_id stand for all of them; those of keys that nobody knows have an
-- organization_id of zeros. Hours also tell secret and route.
CREATE TABLE verify_count (
    organization_id {id} NOT NULL,
    level {word} NOT NULL,
    starts_at {time} NOT NULL,
    key_id {id} NOT NULL,
    secret_id {id} NOT NULL,
    outcome {word} NOT NULL,
    route {word} NOT NULL,
    calls {int} NOT NULL,
    PRIMARY KEY (organization_id, level, starts_at, key_id, secret_id, outcome, route)
) {strict};

CREATE INDEX verify_count_by_age ON verify_count (level, starts_at);

-- The last batch of counts that a node wrote: after a commit whose answer got lost, the node looks here.
CREATE TABLE meter (
    id {id} PRIMARY KEY,
    batch {int} NOT NULL,
    written_at {time} NOT NULL
) {strict};
