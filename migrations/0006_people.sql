-- How people sign in: sessions and their tokens, second factors, one-time links, and the failures that slow guessing down.
-- Of every token only a digest is kept.

ALTER TABLE organization ADD COLUMN second_factor_required {bool} NOT NULL DEFAULT {false};

-- Keys that sign access tokens; sealed under the instance's pepper. retires_at: it signs no more, and verifies until its
-- last token has run out.
CREATE TABLE signing_key (
    id {id} PRIMARY KEY,
    sealed {bytes} NOT NULL,
    public_key {bytes} NOT NULL,
    active_at {time} NOT NULL,
    retires_at {time} NOT NULL
) {strict};

-- One sign-in. generation counts its refresh tokens; confirmed: the newest of them, or its access token, was used.
CREATE TABLE session (
    id {id} PRIMARY KEY,
    person_id {id} NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    browser {bool} NOT NULL,
    ip_address TEXT,
    user_agent TEXT,
    created_at {time} NOT NULL,
    last_seen_at {time} NOT NULL,
    expires_at {time} NOT NULL,
    authenticated_at {time} NOT NULL,
    factor_at {time},
    generation {int} NOT NULL,
    refreshed_at {time} NOT NULL,
    confirmed {bool} NOT NULL,
    ended_at {time},
    end_reason TEXT
) {strict};

CREATE INDEX session_by_person ON session (person_id, created_at);
CREATE INDEX session_by_end ON session (expires_at);

CREATE TABLE refresh_token (
    digest {bytes} PRIMARY KEY,
    session_id {id} NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    generation {int} NOT NULL
) {strict};

CREATE INDEX refresh_token_by_session ON refresh_token (session_id);

-- A sign-in whose password was right and whose second factor is awaited, bound to the client that began it.
CREATE TABLE pending_login (
    digest {bytes} PRIMARY KEY,
    person_id {id} NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    client {bytes} NOT NULL,
    tries {int} NOT NULL,
    expires_at {time} NOT NULL
) {strict};

-- Failed sign-ins by digest of account, source, or both; committed apart from everything else.
CREATE TABLE login_failure (
    subject {bytes} PRIMARY KEY,
    failures {int} NOT NULL,
    first_at {time} NOT NULL,
    last_at {time} NOT NULL
) {strict};

-- last_step: the 30 seconds of the newest code that was accepted; none is accepted twice.
CREATE TABLE totp (
    person_id {id} PRIMARY KEY REFERENCES person (id) ON DELETE CASCADE,
    sealed {bytes} NOT NULL,
    last_step {int} NOT NULL,
    confirmed_at {time},
    created_at {time} NOT NULL
) {strict};

CREATE TABLE backup_code (
    person_id {id} NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    digest {bytes} NOT NULL,
    used_at {time},
    PRIMARY KEY (person_id, digest)
) {strict};

CREATE TABLE trusted_device (
    digest {bytes} PRIMARY KEY,
    person_id {id} NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    expires_at {time} NOT NULL
) {strict};

CREATE TABLE password_reset (
    digest {bytes} PRIMARY KEY,
    person_id {id} NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    expires_at {time} NOT NULL,
    used_at {time}
) {strict};

CREATE TABLE invitation (
    id {id} PRIMARY KEY,
    digest {bytes} NOT NULL,
    organization_id {id} REFERENCES organization (id) ON DELETE CASCADE,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    invited_by {id},
    created_at {time} NOT NULL,
    expires_at {time} NOT NULL,
    accepted_at {time},
    revoked_at {time}
) {strict};

CREATE UNIQUE INDEX invitation_digest_key ON invitation (digest);
CREATE INDEX invitation_by_organization ON invitation (organization_id, created_at);
