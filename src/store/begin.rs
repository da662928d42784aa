//! The first records of a chain, and those of rows that were there before it.

use std::path::Path;

use rusqlite::Connection;
use uuid::Uuid;

use super::canonical::to_canonical_json;
use super::chain::{self, ChainTime, Entry, unwritable};
use super::error::StoreError;
use super::events::{CHAIN_FORMAT, EventKind, Genesis, Migrated, Previous};
use super::open::SCHEMA_STEP;

/// What a new chain is begun with.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) device: String,
    pub(super) now: ChainTime,
    pub(super) previous: Option<Previous>,
}

/// Begins the chain unless there is one, and notes in it that the schema was `found` at another
/// step, 0 for a new file. In the transaction of the migration.
pub(super) fn chain(
    connection: &Connection,
    opening: &Opening,
    found: i64,
) -> rusqlite::Result<()> {
    let event =
        |kind, body: &str| chain::append(connection, &opening.now, Entry::Event(kind, body));
    if chain::end(connection)?.is_none() {
        let genesis = Genesis {
            chain_id: Uuid::now_v7(),
            device: opening.device.clone(),
            format: CHAIN_FORMAT,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            previous: opening.previous.clone(),
        };
        event(EventKind::Genesis, &to_canonical_json(&genesis).map_err(unwritable)?)?;
    }
    if (1..SCHEMA_STEP).contains(&found) {
        let chained_later = chain_rows(connection, &opening.now)?;
        let migrated = Migrated { from_schema: found, to_schema: SCHEMA_STEP, chained_later };
        event(EventKind::Migrated, &to_canonical_json(&migrated).map_err(unwritable)?)?;
    }
    Ok(())
}

/// Chains the inspections that are not, in their order; answers how many.
fn chain_rows(connection: &Connection, now: &ChainTime) -> rusqlite::Result<u64> {
    let mut rows = connection.prepare(
        "SELECT sequence, body FROM inspections
         WHERE sequence > (SELECT coalesce(max(inspection), 0) FROM chain) ORDER BY sequence",
    )?;
    let mut rows = rows.query([])?;
    let mut chained = 0;
    while let Some(row) = rows.next()? {
        let (number, body): (i64, String) = (row.get(0)?, row.get(1)?);
        chain::append(connection, now, Entry::Inspection(number, &body))?;
        chained += 1;
    }
    Ok(chained)
}

/// The first record of the chain in the database at `path`.
pub(super) fn genesis(connection: &Connection, path: &Path) -> Result<Genesis, StoreError> {
    let sql = "SELECT body FROM chain WHERE sequence = 1 AND kind = 'genesis'";
    let body: String = connection
        .query_row(sql, [], |row| row.get(0))
        .map_err(|why| StoreError::from_sql("read the chain's first record", path, why))?;
    serde_json::from_str(&body)
        .map_err(|why| StoreError::Corrupt { path: path.to_owned(), what: why.to_string() })
}
