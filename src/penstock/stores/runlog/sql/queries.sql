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
SELECT no, epoch, state FROM runs WHERE id = ? {lock}

-- name: last_seq
SELECT max(place) & 4294967295 FROM events WHERE place < ?

-- name: head
SELECT no, epoch, state, (SELECT max(place) & 4294967295 FROM events WHERE place < (no + 1) * 4294967296)
FROM runs WHERE id = ?

-- name: insert_event
INSERT INTO events (place, body) VALUES (?, ?)

-- name: event
SELECT body FROM events WHERE place = ?

-- name: events
SELECT e.place & 4294967295, e.body FROM runs r
JOIN events e ON e.place > r.no * 4294967296 + ? AND e.place < (r.no + 1) * 4294967296
WHERE r.id = ? ORDER BY e.place

-- name: events_of
SELECT place & 4294967295, body FROM events WHERE place >= ? AND place < ? ORDER BY place

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

-- name: counts
SELECT state, count(*) FROM step_runs WHERE run_no = ? GROUP BY state

-- name: set_counts
UPDATE runs SET pending = ?, running = ?, succeeded = ?, cached = ?, failed = ?, timed_out = ?, cancelled = ?,
    upstream_failed = ?, skipped = ?
WHERE no = ?

-- name: step_run
SELECT step, "index", first_seq, seqs FROM step_runs WHERE run_no = ? AND step = ? AND "index" = ?

-- name: step_runs
SELECT step, "index", first_seq, seqs FROM step_runs WHERE run_no = ? ORDER BY first_seq

-- name: upsert_step_run
INSERT INTO step_runs (run_no, step, "index", state, attempts, started_at, finished_at, seconds, claim, first_seq, seqs)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_no, step, "index") DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
    started_at = excluded.started_at, finished_at = excluded.finished_at, seconds = excluded.seconds,
    claim = excluded.claim, seqs = excluded.seqs

-- name: delete_step_run
DELETE FROM step_runs WHERE run_no = ? AND step = ? AND "index" = ?

-- name: insert_artifact
INSERT INTO artifacts (digest, codec, size_bytes, ref) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING

-- name: insert_use
INSERT INTO uses (digest, place) VALUES (?, ?) ON CONFLICT DO NOTHING

-- name: insert_use_of_stored
INSERT INTO uses (digest, place) SELECT digest, CAST(? AS {integer}) FROM artifacts WHERE digest = ? ON CONFLICT DO NOTHING

-- name: insert_cache_entry
INSERT INTO cache_entries (key, place) VALUES (?, ?) ON CONFLICT DO NOTHING

-- liveness -----------------------------------------------------------------------------------------------------------

-- name: owner
SELECT host, lease_until FROM runs WHERE id = ?

-- name: running_owners
SELECT id, host, pid, lease_until FROM runs WHERE state = 'running' ORDER BY no

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
JOIN events e ON e.place = c.place JOIN runs r ON r.no = c.place / 4294967296
WHERE c.key = ? ORDER BY c.place DESC

-- name: claims
SELECT n.entries, s.run_no, s.step, s."index", r.id, r.state, r.host, r.lease_until
FROM (SELECT count(*) AS entries FROM cache_entries WHERE key = ?) n
LEFT JOIN step_runs s ON s.claim = ? LEFT JOIN runs r ON r.no = s.run_no

-- name: forget_cache_entry
DELETE FROM cache_entries WHERE key = ? AND place / 4294967296 IN (SELECT no FROM runs WHERE id = ?)

-- name: take_cache_lease
INSERT INTO cache_leases (key, owner, until) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE cache_leases.owner = excluded.owner OR cache_leases.until <= ?

-- name: cache_lease
SELECT owner, until FROM cache_leases WHERE key = ?

-- name: inherit_cache_lease
UPDATE cache_leases SET owner = ?, until = ? WHERE key = ? AND owner = ? AND until = ?

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

-- retention ----------------------------------------------------------------------------------------------------------

-- name: all_artifacts
SELECT digest, ref FROM artifacts

-- name: all_manifests
SELECT digest, body FROM manifests

-- name: delete_run_steps
DELETE FROM step_runs WHERE run_no = ?

-- name: delete_run_events
DELETE FROM events WHERE place >= ? AND place < ?

-- name: delete_run_texts
DELETE FROM texts WHERE run_no = ?

-- name: delete_run_tags
DELETE FROM run_tags WHERE run_no = ?

-- name: delete_run_record
DELETE FROM run_records WHERE run_no = ?

-- name: delete_run
DELETE FROM runs WHERE no = ?

-- name: sweep_cache_entries
DELETE FROM cache_entries WHERE place / 4294967296 NOT IN (SELECT no FROM runs)

-- name: sweep_uses
DELETE FROM uses WHERE place / 4294967296 NOT IN (SELECT no FROM runs)

-- name: sweep_artifacts
DELETE FROM artifacts WHERE NOT EXISTS (SELECT 1 FROM uses u WHERE u.digest = artifacts.digest)

-- name: sweep_manifests
DELETE FROM manifests WHERE digest NOT IN (SELECT manifest FROM runs)

-- name: sweep_cache_leases
DELETE FROM cache_leases WHERE until <= ?

-- name: run_numbers
SELECT no, id, epoch FROM runs ORDER BY no
