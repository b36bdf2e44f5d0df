-- Long work: what waits, what runs, and what became of it. A job without an organization is the instance's own.
-- Of the jobs of one lane only one runs at a time. lease_holder is the node that runs it; when its lease runs out, the node
-- has died and another takes the job up.
CREATE TABLE job (
    id {id} PRIMARY KEY,
    kind {word} NOT NULL,
    lane {word} NOT NULL,
    organization_id {id},
    status {word} NOT NULL,
    arguments {json} NOT NULL,
    actor_type TEXT NOT NULL,
    actor_id {word} NOT NULL,
    actor_name TEXT,
    done {int} NOT NULL,
    total {int},
    unit TEXT,
    attempt {int} NOT NULL,
    lease_holder {id},
    lease_until {time},
    cancel_asked_at {time},
    error TEXT,
    result {json},
    created_at {time} NOT NULL,
    started_at {time},
    finished_at {time}
) {strict};

CREATE INDEX job_by_time ON job (created_at, id);
CREATE INDEX job_by_organization ON job (organization_id, created_at, id);
CREATE INDEX job_unfinished ON job (created_at, id) WHERE status IN ('queued', 'running');
CREATE UNIQUE INDEX job_lane_key ON job (lane) WHERE status = 'running';
CREATE INDEX job_by_end ON job (finished_at);

-- What a job told on its way.
CREATE TABLE job_line (
    job_id {id} NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    number {int} NOT NULL,
    told_at {time} NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
) {strict};

-- When each schedule makes its next job; the node that moves the instant on is the one that makes it.
CREATE TABLE job_schedule (
    name {word} PRIMARY KEY,
    due_at {time} NOT NULL
) {strict};
