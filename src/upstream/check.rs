//! Looks at a copy: whether the server is there, what may be done, how far the copy is, and whether the chain
//! holds by what PostgreSQL has alone.

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::access::{Link, value};
use super::columns::Columns;
use super::error::{UpstreamError, clean};
use super::options::UpstreamOptions;
use super::runtime;
use super::tables::{self, Rights, Tables, quoted};
use crate::store::chain::{ChainDigest, ChainTime};
use crate::store::{ChainRecord, Reader};

/// Records that are in memory at a time.
const PAGE: i64 = 200;

/// What a look at the server found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The server's version, in its own words.
    pub version: String,
    /// Whether the connection is encrypted.
    pub is_encrypted: bool,
    /// Which tables there are.
    pub tables: Tables,
    /// What the role may do with them; `None` without tables.
    pub rights: Option<Rights>,
}

/// Connects and looks. Changes nothing.
pub fn probe(options: &UpstreamOptions) -> Result<Found, UpstreamError> {
    runtime()?.block_on(async {
        let link = Link::open(options).await?;
        let sql = "SELECT current_setting('server_version')";
        let row = link.within("tell its version", link.client.query_one(sql, &[])).await?;
        let tables = tables::look(&link).await?;
        let rights = match tables {
            Tables::Absent => None,
            Tables::Form(_) => Some(tables::rights(&link).await?),
        };
        let version = clean(value(&row, 0)?);
        Ok(Found { version, is_encrypted: options.tls.is_some(), tables, rights })
    })
}

/// The first thing in a chain that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// What, in the words of FORMAT.md, or `not_of_this_log`.
    pub code: &'static str,
    /// At which record.
    pub sequence: i64,
}

/// What a chain in PostgreSQL is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Its name.
    pub chain_id: Uuid,
    /// The device, as its first record names it.
    pub device: String,
    /// Records that are there.
    pub records: u64,
    /// Records of the log here that are not there yet; `None` where there is no such log here.
    pub behind: Option<u64>,
    /// The first thing that does not hold.
    pub first_break: Option<Break>,
    /// The end of what was read: what an anchor of the device can be compared with.
    pub end: Option<(i64, ChainDigest)>,
}

/// Which chains are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one of the log here.
    OfLog,
    /// This one, without a log.
    Named(Uuid),
    /// All that there are.
    All,
}

/// Reads chains from PostgreSQL page by page and verifies each, from its first record on; that of `log` is
/// compared with the log, too. `tell` hears how many records have been read.
pub fn check(
    options: &UpstreamOptions,
    log: Option<&Reader>,
    which: &Which,
    tell: &mut dyn FnMut(u64),
) -> Result<Vec<Proof>, UpstreamError> {
    runtime()?.block_on(async {
        let link = Link::open(options).await?;
        if tables::look(&link).await? == Tables::Absent {
            let schema = &options.schema;
            let text = format!("there is no copy: the schema {schema} has no tables in PostgreSQL");
            return Err(UpstreamError::Conflict(text));
        }
        let own = log.map(|log| log.genesis()).transpose()?.map(|genesis| genesis.chain_id);
        let chains = match which {
            Which::OfLog => own.into_iter().collect(),
            Which::Named(id) => vec![*id],
            Which::All => all(&link).await?,
        };
        let mut proofs = Vec::new();
        for id in chains {
            let log = log.filter(|_| own == Some(id));
            proofs.push(Proving::new(id, log).run(&link, tell).await?);
        }
        Ok(proofs)
    })
}

async fn all(link: &Link) -> Result<Vec<Uuid>, UpstreamError> {
    // From one to the next by the primary key: a list of distinct ones would read every record.
    let sql = format!(
        "SELECT chain_id::text FROM {}.records WHERE chain_id > $1::text::uuid ORDER BY chain_id LIMIT 1",
        quoted(&link.options.schema)
    );
    let mut found: Vec<Uuid> = Vec::new();
    loop {
        let after = found.last().copied().unwrap_or(Uuid::nil()).to_string();
        let asked = link.within("list the logs", link.client.query_opt(&sql, &[&after])).await?;
        let Some(row) = asked else { return Ok(found) };
        let Ok(next) = value::<String>(&row, 0)?.parse() else { return Ok(found) };
        found.push(next);
    }
}

/// A chain that is being proven.
struct Proving<'l> {
    log: Option<&'l Reader>,
    last: (i64, ChainDigest),
    proof: Proof,
}

impl<'l> Proving<'l> {
    fn new(chain_id: Uuid, log: Option<&'l Reader>) -> Proving<'l> {
        let device = String::new();
        let proof =
            Proof { chain_id, device, records: 0, behind: None, first_break: None, end: None };
        Proving { log, last: (0, ChainDigest::NONE), proof }
    }

    async fn run(mut self, link: &Link, tell: &mut dyn FnMut(u64)) -> Result<Proof, UpstreamError> {
        let sql = PAGE_OF.replace("RECORDS", &format!("{}.records", quoted(&link.options.schema)));
        let query = link.within("take its statements", link.client.prepare(&sql)).await?;
        let id = self.proof.chain_id.to_string();
        loop {
            let after = self.last.0;
            let values: [&(dyn ToSql + Sync); 3] = [&id, &after, &PAGE];
            let asked = link.client.query(&query, &values);
            let rows = link.within("give its records", asked).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                let (record, columns, device) = read(row)?;
                self.take(&record, &columns, &device)?;
            }
            tell(self.proof.records);
        }
        self.proof.end = (self.last.0 > 0).then_some(self.last);
        if let Some(log) = self.log {
            let missing = log.chain_end()?.saturating_sub(self.last.0);
            self.proof.behind = Some(u64::try_from(missing).unwrap_or(0));
        }
        Ok(self.proof)
    }

    fn take(
        &mut self,
        record: &ChainRecord,
        columns: &Columns,
        device: &str,
    ) -> Result<(), UpstreamError> {
        let (before, digest) = self.last;
        let mut wrong = |code, sequence| {
            self.proof.first_break.get_or_insert(Break { code, sequence });
        };
        if record.sequence == 1 {
            self.proof.device = clean(device);
        }
        if record.sequence != before + 1 {
            wrong("missing_record", before + 1);
        } else if record.prev != digest {
            wrong("broken_link", record.sequence);
        } else if record.computed() != record.digest {
            wrong("altered_record", record.sequence);
        } else {
            let mut should = Columns::of(record);
            // A body that names no device has its chain's.
            should.device = should.device.or_else(|| columns.device.clone());
            if should != *columns {
                wrong("columns_differ", record.sequence);
            }
        }
        if let Some(log) = self.log
            && log.chain_at(record.sequence)?.map(|(digest, _)| digest) != Some(record.digest)
        {
            wrong("not_of_this_log", record.sequence);
        }
        self.proof.records += 1;
        self.last = (record.sequence, record.digest);
        Ok(())
    }
}

const PAGE_OF: &str = "
SELECT sequence, kind, inspection, wall_ms, monotonic_ns, boot_id, clock_synchronized, body, prev, digest,
       device, result_id, station, recipe, job_id, part_id, verdict, reasons, serials,
       (extract(epoch FROM decided) * 1000)::bigint, latency_ms, is_simulated, disposition, decided_by
FROM RECORDS WHERE chain_id = $1::text::uuid AND sequence > $2 ORDER BY sequence LIMIT $3";

/// A row as the record that it was, its columns, and its device.
fn read(row: &tokio_postgres::Row) -> Result<(ChainRecord, Columns, String), UpstreamError> {
    // The table's CHECK allows no other length; another one is no digest of this record in any case.
    let digest = |bytes: &[u8]| ChainDigest(bytes.try_into().unwrap_or([0; 32]));
    let record = ChainRecord {
        sequence: value(row, 0)?,
        kind: value(row, 1)?,
        inspection: value(row, 2)?,
        time: ChainTime {
            wall_ms: value(row, 3)?,
            monotonic_ns: value::<i64>(row, 4)?.cast_unsigned(),
            boot_id: value(row, 5)?,
            clock_synchronized: value(row, 6)?,
        },
        body: value(row, 7)?,
        prev: digest(value(row, 8)?),
        digest: digest(value(row, 9)?),
    };
    let device: String = value(row, 10)?;
    let columns = Columns {
        device: Some(device.clone()),
        result_id: value(row, 11)?,
        station: value(row, 12)?,
        recipe: value(row, 13)?,
        job_id: value(row, 14)?,
        part_id: value(row, 15)?,
        verdict: value(row, 16)?,
        reasons: value(row, 17)?,
        serials: value(row, 18)?,
        decided_ms: value(row, 19)?,
        latency_ms: value(row, 20)?,
        is_simulated: value(row, 21)?,
        disposition: value(row, 22)?,
        decided_by: value(row, 23)?,
    };
    Ok((record, columns, device))
}
