//! Where serials are looked up: the record and the lists of expected serials.

use std::sync::Mutex;

use crate::expected::{self, ExpectedLists};
use crate::inspector::SerialLedger;
use crate::plc::{Code, ExpectHandler, Refusal};
use crate::store::{Reader, Store, StoreError};
use crate::verdict::serial::{Earlier, EarlierQuery, Listed};

/// Looks serials up in a record and in lists.
pub struct Ledger {
    record: Record,
    lists: ExpectedLists,
}

enum Record {
    /// The one that this process writes.
    Own(Store),
    /// One that is only read, perhaps while a daemon writes it.
    Beside(Mutex<Reader>),
    /// There is none yet, and so no part in it.
    Empty,
}

impl Ledger {
    /// The daemon's.
    pub fn new(store: Store, lists: ExpectedLists) -> Ledger {
        Ledger { record: Record::Own(store), lists }
    }

    /// To look beside a daemon; `None`: nothing was recorded yet.
    pub fn beside(reader: Option<Reader>, lists: ExpectedLists) -> Ledger {
        let record = reader.map_or(Record::Empty, |reader| Record::Beside(Mutex::new(reader)));
        Ledger { record, lists }
    }
}

impl SerialLedger for Ledger {
    fn listed(
        &self,
        station: &str,
        reading: &str,
        look_alikes: &[String],
    ) -> Result<Listed, String> {
        let list = self.lists.get(station).ok_or("the station has no list of expected serials")?;
        Ok(list.listed(reading, look_alikes))
    }

    fn earlier(&self, query: &EarlierQuery<'_>) -> Result<Option<Earlier>, String> {
        let found: Result<_, StoreError> = match &self.record {
            Record::Own(store) => store.earlier_serial(query),
            Record::Beside(reader) => {
                reader.lock().unwrap_or_else(|lock| lock.into_inner()).earlier_serial(query)
            }
            Record::Empty => Ok(None),
        };
        found.map_err(|error| error.to_string())
    }
}

/// The command `expect` of a line's controller changes the list of its station.
impl ExpectHandler for ExpectedLists {
    fn expect(&self, station: &str, payload: &[u8]) -> Result<(), Refusal> {
        self.apply(station, payload).map(drop).map_err(|why| {
            let code = match &why {
                expected::Refusal::TooLong(_) => Code::TooLarge,
                expected::Refusal::NoStation(_) | expected::Refusal::NotAllowed(_) => {
                    Code::NotOffered
                }
                expected::Refusal::NotKept(_) => Code::NotReady,
                _ => Code::BadPayload,
            };
            Refusal::new(code, why.to_string())
        })
    }
}
