-- How an identity provider has asked whoever it vouches for: its words for it (amr, RFC 8176), separated by spaces, and the class
-- that it names (acr). Null where a password or a passkey was shown here.

ALTER TABLE session ADD COLUMN vouched_methods TEXT;
ALTER TABLE session ADD COLUMN vouched_class TEXT;

-- What waits for its second factor keeps it for the session, with the provider's time (auth_time).
ALTER TABLE pending_login ADD COLUMN vouched_methods TEXT;
ALTER TABLE pending_login ADD COLUMN vouched_class TEXT;
ALTER TABLE pending_login ADD COLUMN vouched_at {time};
