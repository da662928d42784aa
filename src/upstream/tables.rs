//! The tables upstream: their form, who makes them, and what may be done with them.

use tokio_postgres::Client;

use super::access::{Link, value};
use super::error::UpstreamError;

/// The form that this program writes and reads.
pub const VERSION: i32 = 1;

/// The schema's name in the text below.
const NAME: &str = "\"inspectd\"";

/// Held while tables are made, so that of many devices that start at once one makes them: "insp" and the
/// form's first number.
const LOCK: i64 = 0x696e_7370_0001;

/// What makes the tables in `schema`, for an administrator to run.
pub fn ddl(schema: &str) -> String {
    include_str!("schema.sql").replace(NAME, &quoted(schema))
}

/// `schema` as it stands in SQL. It is a plain name (`options::is_schema_name`).
pub fn quoted(schema: &str) -> String {
    format!("\"{schema}\"")
}

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// None.
    Absent,
    /// Some of this form.
    Form(i32),
}

/// Looks which tables there are. Changes nothing.
pub async fn look(link: &Link) -> Result<Tables, UpstreamError> {
    const DOING: &str = "look for its tables";
    // By the catalogue: a name that may not be looked at would be an error.
    let sql = "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE n.nspname = $1 AND c.relname = 'format'";
    let schema = &link.options.schema;
    let row = link.within(DOING, link.client.query_one(sql, &[schema])).await?;
    if value::<i64>(&row, 0)? == 0 {
        return Ok(Tables::Absent);
    }
    let sql = format!("SELECT coalesce(max(version), 0) FROM {}.format", quoted(schema));
    let row = link.within(DOING, link.client.query_one(&sql, &[])).await?;
    Ok(Tables::Form(value(&row, 0)?))
}

/// Makes the tables, if they are not there and that is wanted. `Conflict`: they have a newer form.
pub async fn make_sure(link: &mut Link) -> Result<(), UpstreamError> {
    if look(link).await? == Tables::Absent {
        if !link.options.create_tables {
            return Err(UpstreamError::Conflict(format!(
                "there are no tables in the schema {} of the database {}, and `create_tables` is \
                 false: let an administrator run what `inspectd upstream schema` prints",
                link.options.schema, link.options.database
            )));
        }
        make(link).await?;
        tracing::info!(schema = link.options.schema, "tables made in PostgreSQL");
    }
    match look(link).await? {
        Tables::Form(VERSION) => Ok(()),
        Tables::Form(newer) if newer > VERSION => Err(UpstreamError::Conflict(format!(
            "the tables in PostgreSQL have the form {newer}, this inspectd knows {VERSION}: update \
             this one, or name another `schema`"
        ))),
        _ => Err(UpstreamError::Conflict(format!(
            "the schema {} in PostgreSQL has tables of another program or only a part of them: name \
             another `schema`",
            link.options.schema
        ))),
    }
}

async fn make(link: &mut Link) -> Result<(), UpstreamError> {
    let ddl = ddl(&link.options.schema);
    let options = link.options.clone();
    let work = make_in(&mut link.client, &ddl);
    super::access::within(&options, "make the tables", work).await
}

/// All of it or nothing.
async fn make_in(client: &mut Client, ddl: &str) -> Result<(), tokio_postgres::Error> {
    let change = client.transaction().await?;
    change.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    change.batch_execute(ddl).await?;
    change.commit().await
}

/// What the role may do with the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// It may copy: read and add.
    pub may_copy: bool,
    /// It may change or delete, which it need not.
    pub may_change: bool,
}

/// Asks for them.
pub async fn rights(link: &Link) -> Result<Rights, UpstreamError> {
    let table = format!("{}.records", quoted(&link.options.schema));
    let sql = "SELECT has_table_privilege($1, 'SELECT') AND has_table_privilege($1, 'INSERT'),
                      has_table_privilege($1, 'UPDATE') OR has_table_privilege($1, 'DELETE')
                      OR has_table_privilege($1, 'TRUNCATE')";
    let row = link.within("tell the role's rights", link.client.query_one(sql, &[&table])).await?;
    Ok(Rights { may_copy: value(&row, 0)?, may_change: value(&row, 1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_made_where_the_configuration_says() {
        let told = ddl("line_3");
        assert!(told.contains("CREATE TABLE IF NOT EXISTS \"line_3\".records"));
        assert!(!told.contains(NAME), "every name is replaced");
        assert!(told.contains(&format!("VALUES ({VERSION})")));
    }
}
