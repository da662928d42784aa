-- The hash chain: one sequence over inspections and events. src/store/FORMAT.md describes it in full,
-- for those who write a verifier of their own.
CREATE TABLE chain (
    sequence            INTEGER PRIMARY KEY AUTOINCREMENT,  -- from 1, without a hole
    -- No list of kinds: a new kind of event needs no new schema, and an old verifier can check it.
    kind                TEXT    NOT NULL CHECK (length(kind) BETWEEN 1 AND 32
                                                AND kind NOT GLOB '*[^a-z_]*'),
    inspection          INTEGER REFERENCES inspections (sequence),  -- NULL: an event
    wall_ms             INTEGER NOT NULL,                   -- since 1970, UTC, when it was chained
    monotonic_ns        INTEGER NOT NULL CHECK (monotonic_ns >= 0),  -- since the machine started
    boot_id             TEXT    NOT NULL,                   -- which start of the machine
    clock_synchronized  INTEGER NOT NULL CHECK (clock_synchronized IN (0, 1)),
    body                TEXT    CHECK (body IS NULL OR json_valid(body)),  -- of an event
    prev                BLOB    NOT NULL CHECK (length(prev) = 32),
    digest              BLOB    NOT NULL CHECK (length(digest) = 32),
    CHECK ((inspection IS NULL) = (body IS NOT NULL)),
    CHECK ((inspection IS NOT NULL) = (kind = 'inspection'))
) STRICT;

-- Partial, so that a search for events does not take it.
CREATE UNIQUE INDEX chain_inspections ON chain (inspection) WHERE inspection IS NOT NULL;

-- The events among many inspections, and what was said about one result.
CREATE INDEX chain_events ON chain (kind, sequence) WHERE inspection IS NULL;
CREATE INDEX chain_dispositions ON chain (json_extract(body, '$.result_id'), sequence)
    WHERE kind = 'disposition';

CREATE TRIGGER chain_never_changes BEFORE UPDATE ON chain
BEGIN
    SELECT RAISE(ABORT, 'the chain is append-only: no record may be changed');
END;

CREATE TRIGGER chain_never_goes BEFORE DELETE ON chain
BEGIN
    SELECT RAISE(ABORT, 'the chain is append-only: no record may be deleted');
END;

CREATE TRIGGER chain_has_no_hole BEFORE INSERT ON chain
WHEN NEW.sequence <> (SELECT coalesce(max(sequence), 0) + 1 FROM chain)
BEGIN
    SELECT RAISE(ABORT, 'the chain is append-only: a record goes at its end');
END;
