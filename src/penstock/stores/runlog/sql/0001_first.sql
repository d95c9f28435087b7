-- min_writer: 1
--
-- Words in braces are the dialect's (database.py). Digests and keys are bytes: 32 instead of 64.
-- `runs` is rewritten by every append, so it stays narrow; what never changes lies in `run_records`.
-- Events are the truth. A projection keeps plain columns; for its large parts (outputs, inputs, failures …) it names the
-- events that hold them (`sources`: JSON, part -> sequence number), so that nothing is stored twice.

CREATE TABLE schema (
    version {integer} PRIMARY KEY,
    min_writer {integer} NOT NULL,
    applied_at {integer} NOT NULL
);

CREATE TABLE runs (
    no {serial},
    id TEXT NOT NULL UNIQUE,
    pipeline TEXT NOT NULL,
    idempotency_key TEXT UNIQUE,
    manifest {blob} NOT NULL,
    host TEXT NOT NULL,
    pid {integer} NOT NULL,
    epoch {integer} NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    started_at {integer} NOT NULL,
    finished_at {integer},
    cancel_requested {integer} NOT NULL DEFAULT 0,
    lease_until {integer},
    last_seq {integer} NOT NULL,
    pending {integer} NOT NULL DEFAULT 0,
    running {integer} NOT NULL DEFAULT 0,
    succeeded {integer} NOT NULL DEFAULT 0,
    cached {integer} NOT NULL DEFAULT 0,
    failed {integer} NOT NULL DEFAULT 0,
    timed_out {integer} NOT NULL DEFAULT 0,
    cancelled {integer} NOT NULL DEFAULT 0,
    upstream_failed {integer} NOT NULL DEFAULT 0,
    skipped {integer} NOT NULL DEFAULT 0
);
CREATE INDEX runs_by_start ON runs (started_at, no);
CREATE INDEX runs_by_state ON runs (state, started_at, no);
CREATE INDEX runs_by_pipeline ON runs (pipeline, started_at, no);

CREATE TABLE run_records (
    run_no {integer} PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT,
    tags TEXT NOT NULL,
    "user" TEXT NOT NULL,
    parent TEXT,
    "trigger" TEXT NOT NULL,
    logical_time {integer},
    created_at {integer} NOT NULL,
    parameters TEXT NOT NULL,
    code TEXT NOT NULL,
    environment TEXT NOT NULL,
    seed {integer} NOT NULL,
    options TEXT NOT NULL
);

CREATE TABLE run_tags (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    run_no {integer} NOT NULL,
    PRIMARY KEY (name, value, run_no)
) {without_rowid};

CREATE TABLE manifests (
    digest {blob} PRIMARY KEY,
    body {blob} NOT NULL
);

CREATE TABLE events (
    run_no {integer} NOT NULL,
    seq {integer} NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run_no, seq)
) {without_rowid};

CREATE TABLE step_runs (
    run_no {integer} NOT NULL,
    step TEXT NOT NULL,
    "index" TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts {integer} NOT NULL,
    key {blob},
    started_at {integer},
    finished_at {integer},
    seconds {real} NOT NULL,
    retry_at {integer},
    note TEXT,
    first_seq {integer} NOT NULL,
    sources TEXT NOT NULL,
    PRIMARY KEY (run_no, step, "index")
) {without_rowid};

CREATE TABLE attempts (
    run_no {integer} NOT NULL,
    step TEXT NOT NULL,
    "index" TEXT NOT NULL,
    number {integer} NOT NULL,
    started_at {integer} NOT NULL,
    finished_at {integer},
    state TEXT NOT NULL,
    host TEXT NOT NULL,
    pid {integer} NOT NULL,
    engine_attempt {integer},
    seconds {real} NOT NULL DEFAULT 0,
    cpu_seconds {real} NOT NULL DEFAULT 0,
    failure_seq {integer},
    PRIMARY KEY (run_no, step, "index", number)
) {without_rowid};

CREATE TABLE artifacts (
    digest {blob} NOT NULL,
    codec TEXT NOT NULL,
    size_bytes {integer} NOT NULL,
    ref TEXT NOT NULL,
    PRIMARY KEY (digest, codec)
) {without_rowid};

-- Lineage: which step run took and gave which digest. direction: 'in' or 'out'.
CREATE TABLE edges (
    run_no {integer} NOT NULL,
    step TEXT NOT NULL,
    "index" TEXT NOT NULL,
    direction TEXT NOT NULL,
    name TEXT NOT NULL,
    position {integer} NOT NULL,
    digest {blob} NOT NULL,
    PRIMARY KEY (run_no, step, "index", direction, name, position)
) {without_rowid};
CREATE INDEX edges_by_digest ON edges (digest);

CREATE TABLE cache_entries (
    key {blob} NOT NULL,
    run_no {integer} NOT NULL,
    step TEXT NOT NULL,
    "index" TEXT NOT NULL,
    at {integer} NOT NULL,
    seq {integer} NOT NULL,
    PRIMARY KEY (key, run_no, step, "index")
) {without_rowid};

CREATE TABLE cache_leases (
    key {blob} PRIMARY KEY,
    owner TEXT NOT NULL,
    until {integer} NOT NULL
);

CREATE TABLE key_parts (
    key {blob} PRIMARY KEY,
    parts TEXT NOT NULL
);

CREATE TABLE texts (
    no {counter},
    run_no {integer} NOT NULL,
    step TEXT NOT NULL,
    "index" TEXT NOT NULL,
    attempt {integer} NOT NULL,
    body {blob} NOT NULL
);
CREATE INDEX texts_by_run ON texts (run_no, no);

CREATE TABLE fingerprints (
    digest {blob} PRIMARY KEY,
    parts TEXT NOT NULL,
    packages TEXT NOT NULL
);

CREATE TABLE code_parts (
    digest {blob} PRIMARY KEY,
    body {blob} NOT NULL
);
