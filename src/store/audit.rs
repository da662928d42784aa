//! Writing the row of one inspection.

use rusqlite::{Connection, params};

use super::canonical::to_canonical_json;
use super::error::StoreError;
use crate::inspection::Inspection;

/// An inspection as the columns of its row.
pub(super) struct Row<'i> {
    inspection: &'i Inspection,
    pub(super) result_id: String,
    job_id: i64,
    pub(super) body: String,
}

impl<'i> Row<'i> {
    /// Lays `inspection` out. `Unrecordable` if a value does not fit.
    pub(super) fn of(inspection: &'i Inspection) -> Result<Row<'i>, StoreError> {
        let result_id = inspection.result_id.to_string();
        let unfit = |why: String| StoreError::Unrecordable {
            result_id: inspection.result_id.to_string(),
            why,
        };
        let body = to_canonical_json(inspection).map_err(|why| unfit(why.to_string()))?;
        let job_id = i64::try_from(inspection.job_id)
            .map_err(|_| unfit(format!("job number {} is too large", inspection.job_id)))?;
        Ok(Row { inspection, result_id, job_id, body })
    }

    /// The station's name.
    pub(super) fn station(&self) -> &str {
        &self.inspection.station
    }
}

/// Inserts the row and answers its sequence number.
pub(super) fn insert(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<i64> {
    let look = row.inspection;
    connection
        .prepare_cached(
            "INSERT INTO inspections (result_id, station, recipe, job_id, part_id, verdict, serial,
                 decided_wall_ms, latency_ms, is_simulated, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .insert(params![
            row.result_id,
            look.station,
            look.recipe,
            row.job_id,
            look.part_id,
            look.verdict.outcome.as_str(),
            look.serial(),
            look.times.decided.wall.as_millisecond(),
            // SQLite has no NaN; it would become NULL unseen.
            Some(look.timings.latency_ms).filter(|latency| latency.is_finite()),
            look.is_simulated,
            row.body,
        ])
}

/// Whether `why` says that the result_id is in the record already.
pub(super) fn is_duplicate(why: &rusqlite::Error) -> bool {
    let unique = rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
    why.sqlite_error().is_some_and(|error| error.extended_code == unique)
}
