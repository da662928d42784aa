-- The record: one row for each look at a part, in the order in which verdicts stood.
-- Columns repeat what is asked for often; `body` is the whole of it, as canonical JSON.
CREATE TABLE inspections (
    sequence        INTEGER PRIMARY KEY AUTOINCREMENT,  -- from 1, without a hole
    result_id       TEXT    NOT NULL UNIQUE CHECK (length(result_id) = 36),
    station         TEXT    NOT NULL,
    recipe          TEXT    NOT NULL,
    job_id          INTEGER NOT NULL,
    part_id         TEXT    NOT NULL,
    verdict         TEXT    NOT NULL CHECK (verdict IN ('pass', 'fail', 'review')),
    serial          TEXT,
    decided_wall_ms INTEGER NOT NULL,                   -- since 1970, UTC
    latency_ms      REAL,                               -- NULL: it was not a number
    is_simulated    INTEGER NOT NULL CHECK (is_simulated IN (0, 1)),
    body            TEXT    NOT NULL CHECK (json_valid(body))
) STRICT;

CREATE INDEX inspections_by_job ON inspections (station, job_id);
CREATE INDEX inspections_by_time ON inspections (decided_wall_ms);
CREATE INDEX inspections_by_serial ON inspections (serial) WHERE serial IS NOT NULL;

-- A record is written once. These stop a slip of this program, not a person with the file.
CREATE TRIGGER inspections_never_change BEFORE UPDATE ON inspections
BEGIN
    SELECT RAISE(ABORT, 'inspections are append-only: no row may be changed');
END;

CREATE TRIGGER inspections_never_go BEFORE DELETE ON inspections
BEGIN
    SELECT RAISE(ABORT, 'inspections are append-only: no row may be deleted');
END;

-- What is to be delivered; src/store/outbox.rs states the rules.
CREATE TABLE outbox (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    result_id           TEXT    NOT NULL REFERENCES inspections (result_id),
    station             TEXT    NOT NULL,
    kind                TEXT    NOT NULL CHECK (kind IN ('result')),
    payload             BLOB    NOT NULL,
    created_wall_ms     INTEGER NOT NULL,
    sent_wall_ms        INTEGER,
    quarantine_reason   TEXT,
    CHECK (sent_wall_ms IS NULL OR quarantine_reason IS NULL)
) STRICT;

CREATE INDEX outbox_unsent ON outbox (id)
    WHERE sent_wall_ms IS NULL AND quarantine_reason IS NULL;
CREATE INDEX outbox_quarantined ON outbox (id) WHERE quarantine_reason IS NOT NULL;
CREATE INDEX outbox_by_result ON outbox (result_id);
CREATE INDEX outbox_sent_by_station ON outbox (station, id) WHERE sent_wall_ms IS NOT NULL;

CREATE TRIGGER outbox_messages_never_change
BEFORE UPDATE OF id, result_id, station, kind, payload, created_wall_ms ON outbox
BEGIN
    SELECT RAISE(ABORT, 'a message in the outbox may not be changed');
END;

CREATE TRIGGER outbox_sent_stays_sent BEFORE UPDATE OF sent_wall_ms ON outbox
WHEN OLD.sent_wall_ms IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'a message that was sent stays sent');
END;

CREATE TRIGGER outbox_unsent_never_goes BEFORE DELETE ON outbox
WHEN OLD.sent_wall_ms IS NULL
BEGIN
    SELECT RAISE(ABORT, 'a message that was not sent may not be deleted');
END;
