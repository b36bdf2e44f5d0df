-- By which events are found by what their details contain (decision 15): a number for each value in them (keyward-core, `contained`),
-- stretch of the book by stretch, so that what is written together lies together.
CREATE TABLE audit_detail_term (
    segment INTEGER NOT NULL,
    term INTEGER NOT NULL,
    -- The event's place in the segment.
    place INTEGER NOT NULL,
    PRIMARY KEY (segment, term, place)
) STRICT, WITHOUT ROWID;

-- How far that has come: the events at a segment's first so many places have their terms.
CREATE TABLE audit_detail_segment (
    segment INTEGER PRIMARY KEY,
    events INTEGER NOT NULL
) STRICT;
