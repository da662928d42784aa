//! What stands beside a record for queries, taken out of its body.
//!
//! Pure, so that whoever checks a copy can take it out again and compare. A body of another version may lack
//! what is asked for here: then the column is NULL, and the body is copied all the same.

use jiff::Timestamp;
use serde_json::Value;

use crate::store::ChainRecord;

/// Kinds of findings that are serial numbers.
const SERIAL: &str = "serial";

/// The kind of an event by which a person decides.
const DISPOSITION: &str = "disposition";

/// The columns beside those of the chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// The device that the body names.
    pub device: Option<String>,
    /// The result, of an inspection or a disposition.
    pub result_id: Option<String>,
    /// The station.
    pub station: Option<String>,
    /// The recipe.
    pub recipe: Option<String>,
    /// Which trigger of the station.
    pub job_id: Option<i64>,
    /// The part.
    pub part_id: Option<String>,
    /// What was decided.
    pub verdict: Option<String>,
    /// The codes of its reasons.
    pub reasons: Option<Vec<String>>,
    /// The serial numbers that were read.
    pub serials: Option<Vec<String>>,
    /// When, in milliseconds since 1970.
    pub decided_ms: Option<i64>,
    /// From the trigger to the verdict.
    pub latency_ms: Option<f64>,
    /// Not from a line.
    pub is_simulated: Option<bool>,
    /// What a person said.
    pub disposition: Option<String>,
    /// Who said it.
    pub decided_by: Option<String>,
}

impl Columns {
    /// Takes them out of `record`.
    pub fn of(record: &ChainRecord) -> Columns {
        let Ok(body) = serde_json::from_str::<Value>(&record.body) else {
            return Columns::default();
        };
        let device = text(&body["device"]);
        if record.kind == DISPOSITION {
            return Columns {
                device,
                result_id: text(&body["result_id"]),
                disposition: text(&body["disposition"]),
                decided_by: text(&body["by"]),
                ..Columns::default()
            };
        }
        if record.inspection.is_none() {
            return Columns { device, station: text(&body["station"]), ..Columns::default() };
        }
        let serial = |finding: &Value| {
            (finding["kind"] == SERIAL).then(|| text(&finding["value"])).flatten()
        };
        Columns {
            device,
            result_id: text(&body["result_id"]),
            station: text(&body["station"]),
            recipe: text(&body["recipe"]),
            job_id: body["job_id"].as_i64(),
            part_id: text(&body["part_id"]),
            verdict: text(&body["verdict"]["outcome"]),
            reasons: list(&body["verdict"]["reasons"], |reason| text(&reason["code"])),
            serials: list(&body["findings"], serial),
            decided_ms: body["times"]["decided"]["wall"].as_str().and_then(wall_ms),
            latency_ms: body["timings"]["latency_ms"].as_f64(),
            is_simulated: body["is_simulated"].as_bool(),
            ..Columns::default()
        }
    }
}

/// A text as PostgreSQL can hold it: it knows no zero character, which a part's name or a model's answer may
/// have. The body has it as an escape.
fn text(value: &Value) -> Option<String> {
    value.as_str().map(|text| text.replace('\0', "\u{fffd}"))
}

fn list(value: &Value, one: impl Fn(&Value) -> Option<String>) -> Option<Vec<String>> {
    value.as_array().map(|all| all.iter().filter_map(one).collect())
}

/// Times before the year 1 are no times of a part, and PostgreSQL does not know all of them.
fn wall_ms(text: &str) -> Option<i64> {
    const YEAR_1_MS: i64 = -62_135_596_800_000;
    let time: Timestamp = text.parse().ok()?;
    Some(time.as_millisecond()).filter(|ms| *ms >= YEAR_1_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::chain::{ChainDigest, ChainTime};

    fn record(kind: &str, inspection: Option<i64>, body: &str) -> ChainRecord {
        let (wall_ms, monotonic_ns) = (0, 0);
        let time =
            ChainTime { wall_ms, monotonic_ns, boot_id: "b".into(), clock_synchronized: true };
        let (prev, digest) = (ChainDigest::NONE, ChainDigest::NONE);
        let (kind, body) = (kind.to_owned(), body.to_owned());
        ChainRecord { sequence: 1, kind, inspection, time, body, prev, digest }
    }

    #[test]
    fn an_inspection_a_disposition_and_an_event_have_their_columns() {
        let body = r#"{"device":"line-3","findings":[{"kind":"defect","value":"x"},
            {"kind":"serial","value":null},{"kind":"serial","value":"A\u00001"}],"job_id":7,
            "result_id":"r","times":{"decided":{"wall":"1970-01-01T00:00:01.5Z"}},
            "timings":{"latency_ms":null},"verdict":{"outcome":"review","reasons":[{"code":"late"}]}}"#;
        let found = Columns::of(&record("inspection", Some(1), body));
        assert_eq!(found.device.as_deref(), Some("line-3"));
        assert_eq!(found.serials, Some(vec!["A\u{fffd}1".to_owned()]), "no zero character");
        assert_eq!(found.reasons, Some(vec!["late".to_owned()]));
        assert_eq!((found.job_id, found.decided_ms), (Some(7), Some(1500)));
        assert_eq!((found.latency_ms, found.station), (None, None));
        let said =
            r#"{"by":"Ana","disposition":"fail","result_id":"r","station":"x","verdict":"pass"}"#;
        let found = Columns::of(&record("disposition", None, said));
        assert_eq!(found.disposition.as_deref(), Some("fail"));
        assert_eq!((found.decided_by.as_deref(), found.verdict), (Some("Ana"), None));
        let found = Columns::of(&record("recipe", None, r#"{"station":"press"}"#));
        assert_eq!(found, Columns { station: Some("press".into()), ..Columns::default() });
    }

    #[test]
    fn a_body_of_another_form_is_no_reason_not_to_copy() {
        for body in ["", "7", "[]", r#"{"job_id":"x","verdict":3,"findings":{}}"#] {
            assert_eq!(Columns::of(&record("inspection", Some(1), body)), Columns::default());
        }
        let odd = r#"{"job_id":18446744073709551615,"times":{"decided":{"wall":"-009999-01-02T00:00:00Z"}}}"#;
        assert_eq!(Columns::of(&record("inspection", Some(1), odd)), Columns::default());
    }
}
