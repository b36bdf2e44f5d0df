-- The indexes of the book hold numbers in place of texts, so that the book with its tree takes no more room than a plain table: a hash
-- of what is looked for, and the place in the order. What a hash stands for is compared in the row. Rows come in order and never
-- move, so pages are filled to the brim. A place is unique by the desk's lock, and `audit verify` tells when it is not: a key over
-- all months could only promise it together with the instant.
DROP INDEX audit_event_by_organization;
DROP INDEX audit_event_by_type;
DROP INDEX audit_event_by_actor;
DROP INDEX audit_event_by_resource;
DROP INDEX audit_event_by_id;
ALTER TABLE audit_event DROP CONSTRAINT audit_event_pkey;

CREATE INDEX audit_event_by_sequence ON audit_event (sequence) WITH (fillfactor = 100);
CREATE INDEX audit_event_by_id ON audit_event (id) WITH (fillfactor = 100);
CREATE INDEX audit_event_by_organization ON audit_event (uuid_hash_extended(organization_id, 0), sequence) WITH (fillfactor = 100);
CREATE INDEX audit_event_by_type
    ON audit_event (uuid_hash_extended(organization_id, hashtextextended(event_type, 0)), sequence) WITH (fillfactor = 100);
CREATE INDEX audit_event_by_actor ON audit_event (hashtextextended(actor_id, 0), sequence) WITH (fillfactor = 100);
CREATE INDEX audit_event_by_resource ON audit_event (hashtextextended(resource_id, 0), sequence) WITH (fillfactor = 100);
