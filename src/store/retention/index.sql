-- Which pictures there are and which records name them: read from the record, and read anew from it
-- whenever this file is missing or does not fit. Nothing here is the only copy of anything.
CREATE TABLE files (
    sha256   TEXT    PRIMARY KEY,
    bytes    INTEGER NOT NULL,
    rank     INTEGER NOT NULL,          -- place in Rank::ALL: how well it is held
    sequence INTEGER NOT NULL           -- the newest record that names it
) STRICT, WITHOUT ROWID;
CREATE INDEX files_by_rank ON files (rank, sequence);

-- Of the classes that nobody has to decide about, only the newest record of each is kept: it holds
-- the picture longest.
CREATE TABLE needs (
    sha256     TEXT    NOT NULL REFERENCES files (sha256) ON DELETE CASCADE,
    class      INTEGER NOT NULL,        -- place in Class::ALL
    sequence   INTEGER NOT NULL,
    wall_ms    INTEGER,                 -- NULL: no record of a clock that was right came after it
    is_decided INTEGER NOT NULL,
    PRIMARY KEY (sha256, class, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX needs_without_time ON needs (sequence) WHERE wall_ms IS NULL;
CREATE INDEX needs_by_sequence ON needs (sequence);

CREATE TABLE state (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
