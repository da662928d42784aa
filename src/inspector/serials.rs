//! What is looked up about a serial before it is judged. The rules read no record and no file: they
//! get plain data, which stands in the record of the part.

use crate::station::Station;
use crate::verdict::serial::{
    Earlier, EarlierQuery, ExpectedRule, Listed, SerialFacts, SerialRule, Window,
};

/// Looks serials up. The daemon's stands on the record and the lists of expected serials.
///
/// There is no race between two parts: all are looked up, judged and committed one after the other, by the
/// thread that owns the model or in the turn of [`super::Inspector::inspect_in_turn`].
pub trait SerialLedger: Send + Sync {
    /// What the list of `station` says about `reading`; of `look_alikes`, those of the list.
    ///
    /// # Errors
    /// Why nobody can say, for a person.
    fn listed(
        &self,
        station: &str,
        reading: &str,
        look_alikes: &[String],
    ) -> Result<Listed, String>;

    /// The latest record about another part that `query` finds.
    ///
    /// # Errors
    /// Why nobody can say, for a person.
    fn earlier(&self, query: &EarlierQuery<'_>) -> Result<Option<Earlier>, String>;
}

/// Stands where there is no record: whatever should have been looked up goes to review.
pub(super) struct NoLedger;

impl SerialLedger for NoLedger {
    fn listed(&self, _: &str, _: &str, _: &[String]) -> Result<Listed, String> {
        Err("there is no list here".to_owned())
    }

    fn earlier(&self, _: &EarlierQuery<'_>) -> Result<Option<Earlier>, String> {
        Err("there is no record here".to_owned())
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'p> {
    /// The station.
    pub station: &'p Station,
    /// The part in hand.
    pub part_id: &'p str,
    /// Its job number; `None`: it is not of the line, and would come after all that are recorded.
    pub job_id: Option<u64>,
    /// Milliseconds since 1970; `None` if the clock follows no time source.
    pub now_ms: Option<i64>,
}

/// Looks up what `rule` has to know about `reading`. Never fails: what could not be looked up is
/// said in the answer.
pub fn look_up(
    rule: &SerialRule,
    reading: &str,
    asking: &Asking<'_>,
    ledger: &dyn SerialLedger,
) -> SerialFacts {
    let mut facts = SerialFacts { reading: reading.to_owned(), ..SerialFacts::default() };
    let note = |unchecked: &mut Option<String>, why: String| {
        unchecked.get_or_insert(why);
    };
    if rule.expected.is_some() {
        // Too many look-alikes: then none is proposed, and the reading alone is looked for.
        let look_alikes = rule.formed_look_alikes(reading);
        let is_whole = look_alikes.is_some();
        match ledger.listed(&asking.station.name, reading, &look_alikes.unwrap_or_default()) {
            Ok(listed) => facts.list = Some(listed),
            Err(why) => note(&mut facts.unchecked, why),
        }
        if !is_whole {
            note(&mut facts.unchecked, "too many serials look like it".to_owned());
        }
    }
    let repair = rule.repair(reading, facts.list.as_ref()).filter(|repair| repair.accepted);
    let serial = repair.map_or_else(|| reading.to_owned(), |repair| repair.serial);
    if let Some(unique) = &rule.unique {
        match rule.possible_twins(&serial) {
            None => note(&mut facts.unchecked, "too many serials look like it".to_owned()),
            Some(texts) => {
                let query = query(asking, &serial, &texts, unique.window);
                let query = EarlierQuery { scope: unique.scope, ..query };
                match ledger.earlier(&query) {
                    Ok(earlier) => facts.earlier = earlier,
                    Err(why) => note(&mut facts.unchecked, why),
                }
            }
        }
    }
    if let Some(ExpectedRule { once: true, scope, .. }) = &rule.expected {
        let texts = [serial.clone()];
        let query = query(asking, &serial, &texts, Window::Always);
        match ledger.earlier(&EarlierQuery { scope: *scope, ..query }) {
            Ok(used) => facts.used = used,
            Err(why) => note(&mut facts.unchecked, why),
        }
    }
    facts
}

fn query<'q>(
    asking: &Asking<'q>,
    serial: &'q str,
    texts: &'q [String],
    window: Window,
) -> EarlierQuery<'q> {
    EarlierQuery {
        station: &asking.station.name,
        part_id: asking.part_id,
        job_id: asking.job_id,
        serial,
        texts,
        window,
        scope: Default::default(),
        now_ms: asking.now_ms,
        is_simulated: asking.station.is_simulated,
    }
}
