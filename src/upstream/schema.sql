-- The copy of inspectd's audit logs: form 1. One row for each record of each device's chain, in the columns that
-- its digest covers (FORMAT.md), and beside them what queries ask for, taken out of the body.
-- inspectd replaces "inspectd" by the schema of its configuration.

CREATE SCHEMA IF NOT EXISTS "inspectd";

CREATE TABLE IF NOT EXISTS "inspectd".records (
    chain_id            uuid             NOT NULL,  -- which log; a device has another one after it lost its log
    sequence            bigint           NOT NULL CHECK (sequence > 0),  -- from 1 without a hole
    kind                text             NOT NULL,  -- inspection, or what kind of event
    inspection          bigint,                     -- number of the inspection; NULL for an event
    wall_ms             bigint           NOT NULL,  -- since 1970, UTC, when it was chained, as the device believed
    monotonic_ns        bigint           NOT NULL,
    boot_id             text             NOT NULL,
    clock_synchronized  boolean          NOT NULL,
    body                text             NOT NULL,  -- canonical JSON, as it was hashed
    prev                bytea            NOT NULL CHECK (octet_length(prev) = 32),
    digest              bytea            NOT NULL CHECK (octet_length(digest) = 32),
    -- From here on for queries; the body decides.
    device              text             NOT NULL,
    result_id           text,
    station             text,
    recipe              text,
    job_id              bigint,
    part_id             text,
    verdict             text,
    reasons             text[],                     -- codes, in order
    serials             text[],                     -- that were read, in order
    decided             timestamptz,
    latency_ms          double precision,
    is_simulated        boolean,
    disposition         text,                       -- of the kind disposition: what a person said of result_id
    decided_by          text,
    copied_at           timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (chain_id, sequence)
);

CREATE INDEX IF NOT EXISTS records_by_station ON "inspectd".records (device, station, decided)
    WHERE kind = 'inspection';
CREATE INDEX IF NOT EXISTS records_by_result ON "inspectd".records (result_id) WHERE result_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS records_by_serial ON "inspectd".records USING gin (serials) WHERE serials IS NOT NULL;
CREATE INDEX IF NOT EXISTS records_dispositions ON "inspectd".records (chain_id, sequence)
    WHERE kind = 'disposition';

-- Every inspection, with what a person said of it last.
CREATE OR REPLACE VIEW "inspectd".inspections AS
SELECT r.chain_id, r.sequence, r.inspection, r.device, r.station, r.recipe, r.job_id, r.part_id, r.result_id,
       r.verdict, r.reasons, r.serials, r.decided, r.clock_synchronized, r.latency_ms, r.is_simulated,
       said.disposition, said.decided_by, r.body
FROM "inspectd".records AS r
LEFT JOIN LATERAL (
    SELECT d.disposition, d.decided_by FROM "inspectd".records AS d
    WHERE d.result_id = r.result_id AND d.kind = 'disposition' AND d.chain_id = r.chain_id
    ORDER BY d.sequence DESC LIMIT 1
) AS said ON true
WHERE r.kind = 'inspection';

-- What does not hold: a record that is missing, does not follow the one before, or has another digest than its
-- columns. Empty if all chains are whole, as far as they were copied.
CREATE OR REPLACE VIEW "inspectd".breaks AS
SELECT chain_id, device, sequence,
       CASE WHEN sequence <> before + 1 THEN 'missing_record'
            WHEN prev <> prev_digest THEN 'broken_link'
            ELSE 'altered_record' END AS code
FROM (
    SELECT chain_id, device, sequence, prev, digest,
           coalesce(lag(sequence) OVER chain, 0) AS before,
           coalesce(lag(digest) OVER chain, decode(repeat('00', 32), 'hex')) AS prev_digest,
           sha256(
               convert_to(E'inspectd-chain-1\n', 'UTF8')
               || int8send(sequence) || prev
               || int8send(octet_length(convert_to(kind, 'UTF8'))::bigint) || convert_to(kind, 'UTF8')
               || int8send(coalesce(inspection, 0)) || int8send(wall_ms) || int8send(monotonic_ns)
               || int8send(octet_length(convert_to(boot_id, 'UTF8'))::bigint) || convert_to(boot_id, 'UTF8')
               || CASE WHEN clock_synchronized THEN '\x01'::bytea ELSE '\x00'::bytea END
               || int8send(octet_length(convert_to(body, 'UTF8'))::bigint) || convert_to(body, 'UTF8')
           ) AS computed
    FROM "inspectd".records
    WINDOW chain AS (PARTITION BY chain_id ORDER BY sequence)
) AS read
WHERE sequence <> before + 1 OR prev <> prev_digest OR digest <> computed;

-- Which form the tables have. Last, so that it is there when all is.
CREATE TABLE IF NOT EXISTS "inspectd".format (
    version  integer PRIMARY KEY,
    made_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO "inspectd".format (version) VALUES (1) ON CONFLICT DO NOTHING;
