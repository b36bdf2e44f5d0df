-- Organizations, plans, people, keyspaces, keys, and the book of changes.
-- {id}, {time}, {json}, {bytes}, {int}, {bool} are spelled per database (crates/keyward/src/db/migrate.rs).

-- The secrets that go into every digest. value is null where the operator holds it outside the database;
-- mark tells whether a configured pepper is the right one.
CREATE TABLE pepper (
    version {int} PRIMARY KEY,
    value {bytes},
    mark {bytes} NOT NULL,
    created_at {time} NOT NULL
) {strict};

CREATE TABLE plan (
    id {id} PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    key_limit {int} NOT NULL,
    requests_per_minute {int} NOT NULL,
    quota_per_month {int} NOT NULL,
    version {int} NOT NULL,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};

CREATE TABLE organization (
    id {id} PRIMARY KEY,
    name TEXT NOT NULL,
    slug TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL UNIQUE,
    plan_id {id} NOT NULL REFERENCES plan (id),
    status TEXT NOT NULL,
    timezone TEXT NOT NULL,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};

CREATE INDEX organization_by_plan ON organization (plan_id);

CREATE TABLE person (
    id {id} PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    password_hash TEXT,
    disabled_at {time},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};

-- A person's role in an organization, or at the instance where organization_id is null.
CREATE TABLE role_binding (
    id {id} PRIMARY KEY,
    person_id {id} NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    organization_id {id} REFERENCES organization (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    created_at {time} NOT NULL
) {strict};

CREATE UNIQUE INDEX role_binding_in_organization ON role_binding (person_id, organization_id) WHERE organization_id IS NOT NULL;
CREATE UNIQUE INDEX role_binding_at_instance ON role_binding (person_id) WHERE organization_id IS NULL;
CREATE INDEX role_binding_by_organization ON role_binding (organization_id);

CREATE TABLE keyspace (
    id {id} PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    style TEXT NOT NULL,
    environments {json} NOT NULL,
    default_expiry_days {int},
    max_expiry_days {int},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};

-- One logical key. scopes and permissions are words parted by spaces; search is what free text is looked for in.
CREATE TABLE api_key (
    id {id} PRIMARY KEY,
    organization_id {id} NOT NULL REFERENCES organization (id),
    owner_id {id},
    keyspace_id {id} NOT NULL REFERENCES keyspace (id),
    environment TEXT NOT NULL,
    status TEXT NOT NULL,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    scopes TEXT NOT NULL,
    permissions TEXT NOT NULL,
    rules {json} NOT NULL,
    external_id TEXT,
    metadata {json} NOT NULL,
    reason TEXT,
    search TEXT NOT NULL,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    expires_at {time}
) {strict};

CREATE INDEX api_key_by_organization ON api_key (organization_id, created_at, id);
CREATE INDEX api_key_by_owner ON api_key (owner_id);
CREATE INDEX api_key_by_expiry ON api_key (expires_at) WHERE expires_at IS NOT NULL;

-- One string that opens a key: its digest, never itself. scheme is 'native' for our own HMAC under pepper_version;
-- an imported hash keeps its scheme until its first use. A salted one cannot be looked up: encoded holds it, digest is null.
CREATE TABLE key_secret (
    id {id} PRIMARY KEY,
    key_id {id} NOT NULL REFERENCES api_key (id) ON DELETE CASCADE,
    digest {bytes},
    scheme TEXT NOT NULL,
    encoded TEXT,
    pepper_version {int},
    hint TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at {time} NOT NULL,
    expires_at {time},
    replaces {id},
    last_used_at {time},
    last_used_ip TEXT
) {strict};

CREATE UNIQUE INDEX key_secret_digest_key ON key_secret (digest);
CREATE INDEX key_secret_by_key ON key_secret (key_id);
CREATE INDEX key_secret_salted ON key_secret (hint) WHERE encoded IS NOT NULL;

-- Prefixes under which strings of a foreign form may be keys; '' stands for any.
CREATE TABLE import_prefix (
    prefix TEXT PRIMARY KEY
) {strict};

CREATE TABLE leak_report (
    id {id} PRIMARY KEY,
    key_id {id},
    organization_id {id},
    source TEXT NOT NULL,
    url TEXT,
    action TEXT NOT NULL,
    created_at {time} NOT NULL
) {strict};

-- The book: one row for each change, written in the change's own transaction.
CREATE TABLE audit_event (
    id {id} PRIMARY KEY,
    event_type TEXT NOT NULL,
    action TEXT NOT NULL,
    actor_type TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    actor_name TEXT,
    resource_type TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    resource_name TEXT,
    success {bool} NOT NULL,
    error_message TEXT,
    details {json} NOT NULL,
    ip_address TEXT,
    user_agent TEXT,
    organization_id {id},
    request_id TEXT,
    occurred_at {time} NOT NULL,
    logged_at {time} NOT NULL
) {strict};

CREATE INDEX audit_event_by_organization ON audit_event (organization_id, logged_at, id);
CREATE INDEX audit_event_by_time ON audit_event (logged_at, id);

-- Answers to requests that came with an Idempotency-Key, sealed under the caller's own secret.
CREATE TABLE idempotency (
    caller TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint {bytes} NOT NULL,
    status {int},
    answer {bytes},
    created_at {time} NOT NULL,
    PRIMARY KEY (caller, idempotency_key)
) {strict};

CREATE INDEX idempotency_by_time ON idempotency (created_at);

CREATE TABLE setup_token (
    digest {bytes} PRIMARY KEY,
    expires_at {time} NOT NULL,
    used_at {time}
) {strict};
