-- min_writer: 2
--
-- Half the bytes and half the statements per step run. An event's body lies packed (packing.py). What the events say
-- already is stored nowhere else: attempts are folded when they are asked for, a step run names its events (`seqs`)
-- instead of repeating them, and only artifacts that lie in blobs have rows of their own (`uses`: who read or made one).
-- A `place` is an event: its run's number times 2^32, plus its sequence number. As the table's own row number it makes
-- every append go to the end of the last page, which is written once and filled whole.
-- The tables that are projections are made anew from the events, after this (schema.py).
-- A row of `runs` is no longer rewritten by every append: its counters are written when the run finishes, and counted
-- from `step_runs` until then; `last_seq` means nothing any more.

DROP TABLE attempts;
DROP TABLE edges;
DROP TABLE key_parts;
DROP TABLE step_runs;
DROP TABLE artifacts;
DROP TABLE cache_entries;

ALTER TABLE events RENAME TO events_as_text;

CREATE TABLE events (
    place {integer} PRIMARY KEY,
    body {blob} NOT NULL
);

INSERT INTO events (place, body)
SELECT run_no * 4294967296 + seq, {body_as_bytes} FROM events_as_text ORDER BY run_no, seq;

DROP TABLE events_as_text;

-- `claim`: the cache key that a running attempt computes for others too. It is let go with the attempt, and counts for
-- nothing once the run's owner is dead: there is no lease to run out.
CREATE TABLE step_runs (
    run_no {integer} NOT NULL,
    step TEXT NOT NULL,
    "index" TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts {integer} NOT NULL,
    started_at {integer},
    finished_at {integer},
    seconds {real} NOT NULL,
    claim {blob},
    first_seq {integer} NOT NULL,
    seqs TEXT NOT NULL,
    PRIMARY KEY (run_no, step, "index")
) {without_rowid};
CREATE INDEX step_runs_by_claim ON step_runs (claim) WHERE claim IS NOT NULL;

CREATE TABLE artifacts (
    digest {blob} NOT NULL,
    codec TEXT NOT NULL,
    size_bytes {integer} NOT NULL,
    ref TEXT NOT NULL,
    PRIMARY KEY (digest, codec)
) {without_rowid};

CREATE TABLE uses (
    digest {blob} NOT NULL,
    place {integer} NOT NULL,
    PRIMARY KEY (digest, place)
) {without_rowid};

CREATE TABLE cache_entries (
    key {blob} NOT NULL,
    place {integer} NOT NULL,
    PRIMARY KEY (key, place)
) {without_rowid};
