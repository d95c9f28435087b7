-- One block per statement, by name. `?` is a parameter; words in braces are the dialect's (database.py).

-- name: schema
SELECT version, min_writer FROM schema ORDER BY version DESC LIMIT 1

-- name: insert_schema
INSERT INTO schema (version, min_writer, applied_at) VALUES (?, ?, ?)

-- runs ---------------------------------------------------------------------------------------------------------------

-- name: insert_run
INSERT INTO runs (id, pipeline, idempotency_key, manifest, host, pid, epoch, state, started_at, lease_until, last_seq)
VALUES (?, ?, ?, ?, ?, ?, ?, 'running', ?, ?, 1)
ON CONFLICT DO NOTHING

-- name: insert_run_record
INSERT INTO run_records (run_no, project, name, tags, "user", parent, "trigger", logical_time, created_at, parameters,
                         code, environment, seed, options)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_run_tag
INSERT INTO run_tags (name, value, run_no) VALUES (?, ?, ?)

-- name: insert_manifest
INSERT INTO manifests (digest, body) VALUES (?, ?) ON CONFLICT DO NOTHING

-- name: manifest
SELECT body FROM manifests WHERE digest = ?

-- name: run_no
SELECT no FROM runs WHERE id = ?

-- name: run_id_of_key
SELECT id FROM runs WHERE idempotency_key = ?

-- name: select_runs
SELECT r.id, r.pipeline, r.idempotency_key, r.manifest, r.host, r.pid, r.epoch,
       d.project, d.name, d.tags, d."user", d.parent, d."trigger", d.logical_time, d.created_at, d.parameters,
       d.code, d.environment, d.seed, d.options,
       r.state, r.started_at, r.finished_at, r.error, r.lease_until,
       r.pending, r.running, r.succeeded, r.cached, r.failed, r.timed_out, r.cancelled, r.upstream_failed, r.skipped,
       r.no
FROM runs r JOIN run_records d ON d.run_no = r.no

-- name: match_runs
SELECT id FROM runs WHERE id LIKE ? ESCAPE '!' OR id LIKE ? ESCAPE '!' ORDER BY started_at DESC, no DESC LIMIT 100

-- appending ----------------------------------------------------------------------------------------------------------

-- name: lock_run
SELECT no, epoch, last_seq FROM runs WHERE id = ? {lock}

-- name: insert_event
INSERT INTO events (run_no, seq, body) VALUES (?, ?, ?)

-- name: event
SELECT body FROM events WHERE run_no = ? AND seq = ?

-- name: events
SELECT e.seq, e.body FROM events e JOIN runs r ON r.no = e.run_no WHERE r.id = ? AND e.seq > ? ORDER BY e.seq

-- name: events_of
SELECT seq, body FROM events WHERE run_no = ? AND seq >= ? ORDER BY seq

-- name: update_run
UPDATE runs SET last_seq = ?, pending = pending + ?, running = running + ?, succeeded = succeeded + ?,
    cached = cached + ?, failed = failed + ?, timed_out = timed_out + ?, cancelled = cancelled + ?,
    upstream_failed = upstream_failed + ?, skipped = skipped + ?
WHERE no = ?

-- name: start_run
UPDATE runs SET started_at = ? WHERE no = ?

-- name: finish_run
UPDATE runs SET state = ?, error = ?, finished_at = ?, lease_until = NULL WHERE no = ?

-- name: resume_run
UPDATE runs SET state = 'running', error = NULL, finished_at = NULL, cancel_requested = 0, epoch = ?, host = ?, pid = ?,
    manifest = COALESCE(?, manifest), lease_until = ?
WHERE no = ?

-- name: renew_run_record
UPDATE run_records SET code = COALESCE(?, code), environment = COALESCE(?, environment) WHERE run_no = ?

-- name: request_cancel
UPDATE runs SET cancel_requested = 1 WHERE no = ?

-- name: step_run
SELECT step, "index", state, attempts, key, started_at, finished_at, seconds, retry_at, note, first_seq,
       sources
FROM step_runs WHERE run_no = ? AND step = ? AND "index" = ?

-- name: step_runs
SELECT step, "index", state, attempts, key, started_at, finished_at, seconds, retry_at, note, first_seq,
       sources
FROM step_runs WHERE run_no = ? ORDER BY first_seq

-- name: upsert_step_run
INSERT INTO step_runs (run_no, step, "index", state, attempts, key, started_at, finished_at, seconds, retry_at, note,
    first_seq, sources)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_no, step, "index") DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
    key = excluded.key, started_at = excluded.started_at, finished_at = excluded.finished_at,
    seconds = excluded.seconds, retry_at = excluded.retry_at, note = excluded.note, sources = excluded.sources

-- name: insert_attempt
INSERT INTO attempts (run_no, step, "index", number, started_at, state, host, pid, engine_attempt)
VALUES (?, ?, ?, ?, ?, 'running', ?, ?, ?)

-- name: end_attempt
UPDATE attempts SET state = ?, finished_at = ?, seconds = ?, cpu_seconds = ?, failure_seq = ?
WHERE run_no = ? AND step = ? AND "index" = ? AND number = ?

-- name: attempts
SELECT a.step, a."index", a.number, a.started_at, a.finished_at, a.state, a.host, a.pid, a.seconds, a.cpu_seconds,
       e.body
FROM attempts a JOIN runs r ON r.no = a.run_no
LEFT JOIN events e ON e.run_no = a.run_no AND e.seq = a.failure_seq
WHERE r.id = ? ORDER BY a.started_at, a.step, a."index", a.number

-- name: insert_artifact
INSERT INTO artifacts (digest, codec, size_bytes, ref) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING

-- name: delete_edges
DELETE FROM edges WHERE run_no = ? AND step = ? AND "index" = ? AND direction = ?

-- name: insert_edge
INSERT INTO edges (run_no, step, "index", direction, name, position, digest) VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: upsert_cache_entry
INSERT INTO cache_entries (key, run_no, step, "index", at, seq) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (key, run_no, step, "index") DO UPDATE SET at = excluded.at, seq = excluded.seq

-- liveness -----------------------------------------------------------------------------------------------------------

-- name: owner
SELECT host, lease_until FROM runs WHERE id = ?

-- name: pulse
SELECT epoch, cancel_requested FROM runs WHERE id = ?

-- name: owned_attempt
SELECT 1 FROM runs r JOIN step_runs s ON s.run_no = r.no
WHERE r.id = ? AND r.epoch = ? AND s.step = ? AND s."index" = ? AND s.attempts = ? AND s.state = 'running'

-- name: renew_lease
UPDATE runs SET lease_until = ? WHERE id = ? AND epoch = ? AND state = 'running'

-- name: drop_lease
UPDATE runs SET lease_until = NULL WHERE id = ? AND epoch = ? AND lease_until IS NOT NULL

-- cache --------------------------------------------------------------------------------------------------------------

-- name: cache_entries
SELECT r.id, e.body FROM cache_entries c
JOIN runs r ON r.no = c.run_no JOIN events e ON e.run_no = c.run_no AND e.seq = c.seq
WHERE c.key = ? ORDER BY c.at DESC, c.run_no DESC, c.seq DESC

-- name: forget_cache_entry
DELETE FROM cache_entries WHERE key = ? AND run_no IN (SELECT no FROM runs WHERE id = ?)

-- name: take_cache_lease
INSERT INTO cache_leases (key, owner, until) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE cache_leases.owner = excluded.owner OR cache_leases.until <= ?

-- name: drop_cache_lease
DELETE FROM cache_leases WHERE key = ? AND owner = ?

-- texts and code -----------------------------------------------------------------------------------------------------

-- name: insert_text
INSERT INTO texts (run_no, step, "index", attempt, body) VALUES (?, ?, ?, ?, ?)

-- name: select_texts
SELECT t.no, t.step, t."index", t.attempt, t.body FROM texts t JOIN runs r ON r.no = t.run_no

-- name: insert_fingerprint
INSERT INTO fingerprints (digest, parts, packages) VALUES (?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET packages = excluded.packages WHERE fingerprints.packages <> excluded.packages

-- name: insert_code_part
INSERT INTO code_parts (digest, body) VALUES (?, ?) ON CONFLICT DO NOTHING

-- name: fingerprint
SELECT parts, packages FROM fingerprints WHERE digest = ?

-- name: code_part
SELECT body FROM code_parts WHERE digest = ?

-- name: insert_key_parts
INSERT INTO key_parts (key, parts) VALUES (?, ?) ON CONFLICT DO NOTHING

-- name: key_parts
SELECT parts FROM key_parts WHERE key = ?

-- retention ----------------------------------------------------------------------------------------------------------

-- name: all_artifacts
SELECT digest, ref FROM artifacts

-- name: all_manifests
SELECT digest, body FROM manifests

-- name: delete_run_edges
DELETE FROM edges WHERE run_no = ?

-- name: delete_run_attempts
DELETE FROM attempts WHERE run_no = ?

-- name: delete_run_steps
DELETE FROM step_runs WHERE run_no = ?

-- name: delete_run_events
DELETE FROM events WHERE run_no = ?

-- name: delete_run_texts
DELETE FROM texts WHERE run_no = ?

-- name: delete_run_tags
DELETE FROM run_tags WHERE run_no = ?

-- name: delete_run_record
DELETE FROM run_records WHERE run_no = ?

-- name: delete_run
DELETE FROM runs WHERE no = ?

-- name: sweep_cache_entries
DELETE FROM cache_entries WHERE run_no NOT IN (SELECT no FROM runs)

-- name: sweep_artifacts
DELETE FROM artifacts WHERE NOT EXISTS (SELECT 1 FROM edges e WHERE e.digest = artifacts.digest)

-- name: sweep_manifests
DELETE FROM manifests WHERE digest NOT IN (SELECT manifest FROM runs)

-- name: sweep_key_parts
DELETE FROM key_parts WHERE key NOT IN (SELECT key FROM step_runs WHERE key IS NOT NULL)

-- name: sweep_cache_leases
DELETE FROM cache_leases WHERE until <= ?
