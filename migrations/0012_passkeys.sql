-- Passkeys (WebAuthn) and the challenges that authenticators answer. Of a passkey only its public half is here, and nothing
-- in these tables opens an account.

-- sign_count repeats what the credential holds, for whoever looks into the table.
CREATE TABLE passkey (
    id {id} PRIMARY KEY,
    person_id {id} NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    credential_id {bytes} NOT NULL,
    credential {json} NOT NULL,
    sign_count {int} NOT NULL,
    created_at {time} NOT NULL,
    last_used_at {time}
) {strict};

CREATE UNIQUE INDEX passkey_credential_key ON passkey (credential_id);
CREATE INDEX passkey_by_person ON passkey (person_id, created_at);

-- bound_to: a digest of what it was asked for, and of whom; nothing else can be answered with it. Spent by being deleted.
CREATE TABLE passkey_challenge (
    id {id} PRIMARY KEY,
    bound_to {bytes} NOT NULL,
    state {json} NOT NULL,
    expires_at {time} NOT NULL
) {strict};

CREATE INDEX passkey_challenge_by_end ON passkey_challenge (expires_at);

-- A passkey alone signs in too, so when a password was shown is told apart from when somebody signed in. Until now every session
-- began with one.
ALTER TABLE session ADD COLUMN password_at {time};
ALTER TABLE session ADD COLUMN factor TEXT;
UPDATE session SET password_at = authenticated_at;
