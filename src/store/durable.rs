//! What must be on the disk when it returns, and what need not.
//!
//! A record must survive a power cut. That the broker has acknowledged a message need not: it is sent
//! again then, under the same `result_id`. A fast line waits for the disk half as often by that.

use rusqlite::Connection;

/// Whether a commit returns only when it is on the disk.
pub(super) fn wait_for_the_disk(connection: &Connection, wait: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", if wait { "FULL" } else { "NORMAL" })
}

/// Carries out a change without waiting for the disk: a power cut may undo it. What was committed
/// before it is not touched by that, and the next record takes it to the disk, too.
pub(super) fn without_haste<T>(
    connection: &mut Connection,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    wait_for_the_disk(connection, false)?;
    let done = work(connection);
    wait_for_the_disk(connection, true)?;
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synchronous(connection: &Connection) -> i64 {
        let number = |row: &rusqlite::Row<'_>| row.get(0);
        connection.pragma_query_value(None, "synchronous", number).expect("a number")
    }

    #[test]
    fn the_disk_is_waited_for_again_after_a_change_that_need_not_be_on_it() {
        let mut connection = Connection::open_in_memory().expect("opens");
        wait_for_the_disk(&connection, true).expect("set");
        assert_eq!(synchronous(&connection), 2);
        let seen = without_haste(&mut connection, |inside| Ok(synchronous(inside)));
        assert_eq!((seen.expect("done"), synchronous(&connection)), (1, 2));
        let failed = without_haste(&mut connection, |inside| inside.execute("no SQL", []));
        assert!(failed.is_err());
        assert_eq!(synchronous(&connection), 2);
    }
}
