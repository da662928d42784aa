//! One transaction of records: all of them are in the table afterwards, with the digests that the log has, or
//! nothing was changed.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement, Transaction};
use uuid::Uuid;

use super::access::{self, Link, value};
use super::columns::Columns;
use super::error::UpstreamError;
use super::tables::quoted;
use crate::fault;
use crate::store::ChainRecord;
use crate::store::chain::ChainDigest;

/// The chain that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub id: Uuid,
    /// The device that began it, for records that name none.
    pub device: String,
}

/// The statements of a connection.
pub struct Writer {
    insert: Statement,
    digests: Statement,
    ends: Statement,
    count: Statement,
}

/// The end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Its last record.
    pub sequence: i64,
    /// That record's digest.
    pub digest: ChainDigest,
}

impl Writer {
    /// Prepares them on `link`.
    pub async fn new(link: &Link) -> Result<Writer, UpstreamError> {
        let records = format!("{}.records", quoted(&link.options.schema));
        let insert = INSERT.replace("RECORDS", &records);
        let digests = format!(
            "SELECT sequence, digest FROM {records}
             WHERE chain_id = $1::text::uuid AND sequence >= $2 AND sequence <= $3 ORDER BY sequence"
        );
        let ends = format!(
            "SELECT sequence, digest FROM {records} WHERE chain_id = $1::text::uuid
             ORDER BY sequence DESC LIMIT 1"
        );
        let count = format!(
            "SELECT count(*) FROM {records}
             WHERE chain_id = $1::text::uuid AND sequence > $2 AND sequence <= $3"
        );
        const DOING: &str = "take its statements";
        Ok(Writer {
            insert: link.within(DOING, link.client.prepare(&insert)).await?,
            digests: link.within(DOING, link.client.prepare(&digests)).await?,
            ends: link.within(DOING, link.client.prepare(&ends)).await?,
            count: link.within(DOING, link.client.prepare(&count)).await?,
        })
    }

    /// The last record of `chain` that is there; `None`: there is none.
    pub async fn end(&self, link: &Link, chain: &Chain) -> Result<Option<End>, UpstreamError> {
        const DOING: &str = "tell how far the copy has come";
        let id = chain.id.to_string();
        let row = link.within(DOING, link.client.query_opt(&self.ends, &[&id])).await?;
        row.map(|row| Ok(End { sequence: value(&row, 0)?, digest: digest(value(&row, 1)?)? }))
            .transpose()
    }

    /// How many records there are above `after` up to `upto`.
    pub async fn count(
        &self,
        link: &Link,
        chain: &Chain,
        (after, upto): (i64, i64),
    ) -> Result<i64, UpstreamError> {
        let id = chain.id.to_string();
        let values: [&(dyn ToSql + Sync); 3] = [&id, &after, &upto];
        let asked = link.client.query_one(&self.count, &values);
        value(&link.within("count records", asked).await?, 0)
    }

    /// Adds `records`, which follow each other without a hole, and compares what is there then with them;
    /// answers how many were not there before. `Conflict`: another record stands at the place of one of
    /// them; then nothing was added, and nothing is ever replaced.
    pub async fn append(
        &self,
        link: &mut Link,
        chain: &Chain,
        records: &[ChainRecord],
    ) -> Result<u64, UpstreamError> {
        let options = link.options.clone();
        const DOING: &str = "add records";
        let work = self.append_in(&mut link.client, chain, records);
        let (change, added, there) = access::within(&options, DOING, work).await?;
        if let Some(first) = records.iter().find(|it| !there.contains(&(it.sequence, it.digest.0)))
        {
            // The transaction is rolled back as it is dropped.
            return Err(other_record(chain, first.sequence));
        }
        fault::point(fault::COPY_WRITTEN);
        access::within(&options, "commit records", change.commit()).await?;
        fault::point(fault::COPY_DONE);
        Ok(added)
    }

    async fn append_in<'c>(
        &self,
        client: &'c mut Client,
        chain: &Chain,
        records: &[ChainRecord],
    ) -> Result<(Transaction<'c>, u64, Vec<(i64, [u8; 32])>), tokio_postgres::Error> {
        let change = client.transaction().await?;
        let added = insert(&change, &self.insert, chain, records).await?;
        let (first, last) = (records.first(), records.last());
        let bounds = first.zip(last).map_or((1, 0), |(one, other)| (one.sequence, other.sequence));
        let id = chain.id.to_string();
        let rows = change.query(&self.digests, &[&id, &bounds.0, &bounds.1]).await?;
        let there = rows.iter().filter_map(|row| {
            // What has another form is as little the record as one with another digest.
            let digest: &[u8] = row.try_get(1).ok()?;
            Some((row.try_get(0).ok()?, <[u8; 32]>::try_from(digest).ok()?))
        });
        let there = there.collect();
        Ok((change, added, there))
    }
}

/// What a person has to look at.
pub fn other_record(chain: &Chain, sequence: i64) -> UpstreamError {
    let Chain { id, device } = chain;
    UpstreamError::Conflict(format!(
        "PostgreSQL holds another record at {sequence} of the log {id} of {device}, and it is left as \
         it is: the audit log was put back to an older state and went on, two devices run with copies of \
         one log, or a row was changed; `inspectd upstream check` tells what is there"
    ))
}

fn digest(bytes: &[u8]) -> Result<ChainDigest, UpstreamError> {
    // The table's CHECK allows no other length.
    let bytes = bytes.try_into().map_err(|_| {
        UpstreamError::Conflict("a digest in PostgreSQL does not have 32 bytes".to_owned())
    })?;
    Ok(ChainDigest(bytes))
}

/// Columns come as one array each, so that any number of records is one statement and one way to the server.
/// Lists within them come as JSON, as an array of PostgreSQL cannot hold lists of different lengths.
const INSERT: &str = "
INSERT INTO RECORDS (chain_id, sequence, kind, inspection, wall_ms, monotonic_ns, boot_id, clock_synchronized,
    body, prev, digest, device, result_id, station, recipe, job_id, part_id, verdict, reasons, serials, decided,
    latency_ms, is_simulated, disposition, decided_by)
SELECT $1::text::uuid, sequence, kind, inspection, wall_ms, monotonic_ns, boot_id, clock_synchronized,
    body, prev, digest, device, result_id, station, recipe, job_id, part_id, verdict,
    CASE WHEN reasons IS NOT NULL THEN ARRAY(SELECT json_array_elements_text(reasons::json)) END,
    CASE WHEN serials IS NOT NULL THEN ARRAY(SELECT json_array_elements_text(serials::json)) END,
    TIMESTAMPTZ 'epoch' + decided_ms * INTERVAL '1 millisecond', latency_ms, is_simulated, disposition, decided_by
FROM unnest($2::int8[], $3::text[], $4::int8[], $5::int8[], $6::int8[], $7::text[], $8::bool[], $9::text[],
    $10::bytea[], $11::bytea[], $12::text[], $13::text[], $14::text[], $15::text[], $16::int8[], $17::text[],
    $18::text[], $19::text[], $20::text[], $21::int8[], $22::float8[], $23::bool[], $24::text[], $25::text[])
AS r (sequence, kind, inspection, wall_ms, monotonic_ns, boot_id, clock_synchronized, body, prev, digest, device,
    result_id, station, recipe, job_id, part_id, verdict, reasons, serials, decided_ms, latency_ms, is_simulated,
    disposition, decided_by)
ON CONFLICT (chain_id, sequence) DO NOTHING";

async fn insert(
    change: &Transaction<'_>,
    statement: &Statement,
    chain: &Chain,
    records: &[ChainRecord],
) -> Result<u64, tokio_postgres::Error> {
    let columns: Vec<Columns> = records.iter().map(Columns::of).collect();
    let id = chain.id.to_string();
    macro_rules! of_record {
        ($one:expr) => {
            records.iter().map($one).collect::<Vec<_>>()
        };
    }
    macro_rules! of_column {
        ($one:expr) => {
            columns.iter().map($one).collect::<Vec<_>>()
        };
    }
    let device = |it: &Columns| it.device.clone().unwrap_or_else(|| chain.device.clone());
    change
        .execute(
            statement,
            &[
                &id,
                &of_record!(|it| it.sequence),
                &of_record!(|it| it.kind.as_str()),
                &of_record!(|it| it.inspection),
                &of_record!(|it| it.time.wall_ms),
                &of_record!(|it| it.time.monotonic_ns.cast_signed()),
                &of_record!(|it| it.time.boot_id.as_str()),
                &of_record!(|it| it.time.clock_synchronized),
                &of_record!(|it| it.body.as_str()),
                &of_record!(|it| it.prev.0.as_slice()),
                &of_record!(|it| it.digest.0.as_slice()),
                &of_column!(device),
                &of_column!(|it| it.result_id.as_deref()),
                &of_column!(|it| it.station.as_deref()),
                &of_column!(|it| it.recipe.as_deref()),
                &of_column!(|it| it.job_id),
                &of_column!(|it| it.part_id.as_deref()),
                &of_column!(|it| it.verdict.as_deref()),
                &of_column!(|it| it.reasons.as_ref().map(json)),
                &of_column!(|it| it.serials.as_ref().map(json)),
                &of_column!(|it| it.decided_ms),
                &of_column!(|it| it.latency_ms),
                &of_column!(|it| it.is_simulated),
                &of_column!(|it| it.disposition.as_deref()),
                &of_column!(|it| it.decided_by.as_deref()),
            ],
        )
        .await
}

fn json(list: &Vec<String>) -> String {
    serde_json::Value::from(list.as_slice()).to_string()
}
