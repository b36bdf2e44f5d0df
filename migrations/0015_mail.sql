-- Mails that wait to be sent, written with the change that they tell of. They hold links, so what they say is sealed. A mail is
-- taken by moving its due_at on: when whoever took it dies, it is due again.
CREATE TABLE mail_outbox (
    id {id} PRIMARY KEY,
    sealed {bytes} NOT NULL,
    attempts {int} NOT NULL,
    due_at {time} NOT NULL,
    created_at {time} NOT NULL
) {strict};

CREATE INDEX mail_outbox_by_time ON mail_outbox (due_at, id);
