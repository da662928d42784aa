-- What must be known of a station's contract with its controller after a restart.
CREATE TABLE contracts (
    station         TEXT    PRIMARY KEY,
    recipe_index    INTEGER,                            -- the active one; NULL: the station's own
    acknowledged    TEXT CHECK (json_valid(acknowledged)) -- how far results were; NULL: never asked
) STRICT;

-- Triggers that were accepted, written before their acknowledgement leaves. One without an
-- inspection of its job was cut off, and the next start records it as review. The newest of a station
-- are kept: a message that comes twice is known by them.
CREATE TABLE accepted_triggers (
    station         TEXT    NOT NULL,
    job_id          INTEGER NOT NULL,
    trigger_id      TEXT    NOT NULL CHECK (json_valid(trigger_id)),
    named_part      TEXT,                               -- as the controller named it, if it did
    part_id         TEXT    NOT NULL,
    deadline_ms     INTEGER NOT NULL,
    recipe_index    INTEGER NOT NULL,
    accepted_wall_ms INTEGER NOT NULL,                  -- since 1970, UTC
    PRIMARY KEY (station, job_id)
) STRICT, WITHOUT ROWID;
