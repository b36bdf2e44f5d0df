-- Room for keys that was found when keys were last counted, under which limit, less what was taken of it since: so many fit without
-- counting all keys again. What was revoked or has expired meanwhile makes more room, never less.
ALTER TABLE organization ADD COLUMN spare_keys {int} NOT NULL DEFAULT 0;
ALTER TABLE organization ADD COLUMN spare_under {int} NOT NULL DEFAULT 0;
