-- People who sign in by an identity provider.

-- An account is known by the issuer and the subject there, whatever becomes of its address.
CREATE TABLE person_identity (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    person_id {id} NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    created_at {time} NOT NULL,
    last_used_at {time} NOT NULL,
    PRIMARY KEY (issuer, subject)
) {strict};

CREATE UNIQUE INDEX person_identity_by_person ON person_identity (person_id, issuer);

-- A sign-in that was sent to the provider and has not come back: the digests of its state, and of the cookie of the browser
-- that began it.
CREATE TABLE provider_login (
    digest {bytes} PRIMARY KEY,
    browser {bytes} NOT NULL,
    next_path TEXT NOT NULL,
    expires_at {time} NOT NULL
) {strict};

CREATE INDEX provider_login_by_end ON provider_login (expires_at);

-- Who gave a role: null where somebody did by hand, else the provider, which takes back only its own.
ALTER TABLE role_binding ADD COLUMN origin TEXT;
