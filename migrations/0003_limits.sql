-- Versions of plans, the use of quotas, and reservations of it.

-- The terms of a plan. The plan names its present version; an organization may be kept on an older one.
CREATE TABLE plan_version (
    plan_id {id} NOT NULL REFERENCES plan (id) ON DELETE CASCADE,
    version {int} NOT NULL,
    key_limit {int} NOT NULL,
    requests_per_minute {int} NOT NULL,
    quota_per_month {int} NOT NULL,
    limits {json} NOT NULL,
    effective_at {time} NOT NULL,
    -- Whether it waits for effective_at to become the present version.
    scheduled {bool} NOT NULL,
    -- Whether organizations that are on the plan when it takes effect stay on their version.
    grandfathers {bool} NOT NULL,
    created_at {time} NOT NULL,
    PRIMARY KEY (plan_id, version)
) {strict};

CREATE INDEX plan_version_scheduled ON plan_version (effective_at) WHERE scheduled;

INSERT INTO plan_version
    SELECT id, version, key_limit, requests_per_minute, quota_per_month, '[]', updated_at, {false}, {false}, updated_at FROM plan;

ALTER TABLE plan DROP COLUMN key_limit;
ALTER TABLE plan DROP COLUMN requests_per_minute;
ALTER TABLE plan DROP COLUMN quota_per_month;
-- Null: the plan's present version.
ALTER TABLE organization ADD COLUMN plan_version {int};

-- What was used of a quota: subject is an organization or a key, unit 'month' or 'day', start the bucket's beginning.
CREATE TABLE quota_use (
    subject {id} NOT NULL,
    unit TEXT NOT NULL,
    start {time} NOT NULL,
    used {int} NOT NULL,
    PRIMARY KEY (subject, unit, start)
) {strict};

-- Use that was taken before its price is known. draws tells what was taken of what.
CREATE TABLE reservation (
    id {id} PRIMARY KEY,
    organization_id {id} NOT NULL,
    key_id {id} NOT NULL,
    cost {int} NOT NULL,
    draws {json} NOT NULL,
    taken_at {time} NOT NULL,
    expires_at {time} NOT NULL
) {strict};

CREATE INDEX reservation_by_expiry ON reservation (expires_at);
