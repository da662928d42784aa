//! The log for other programs: what they read back is what was recorded.

use std::path::Path;
use std::process::Command;

use inspectd::evaluate::truth::read_set;
use inspectd::store::export::{ExportFormat, export, export_to_file};
use inspectd::store::labelled::{Labelled, labelled};
use inspectd::store::{Disposition, Filter, Reader, Store, disposition};
use inspectd::verdict::{Outcome, Verdict};
use tempfile::tempdir;

use crate::support::records::{clock, inspection, open};

/// Twelve records; the last has no latency, no frame, no reasons and a hostile part.
fn filled(dir: &Path) -> Store {
    let store = open(dir);
    for job_id in 1..=12 {
        let mut look = inspection("left", job_id);
        if job_id == 12 {
            look.times.captured = None;
            look.evidence.clear();
            look.verdict = Verdict { outcome: Outcome::Pass, reasons: Vec::new() };
            look.part_id = "=HYPERLINK(\"http://x\"),\r\n\"quoted\"".into();
        }
        store.commit(&look, &[]).expect("a commit");
    }
    store
}

#[test]
fn csv_is_rfc_4180_and_computes_nothing() {
    let dir = tempdir().expect("a folder");
    let reader = filled(dir.path()).reader().expect("reads");
    let mut out = Vec::new();
    export(&reader, &Filter::default(), ExportFormat::Csv, &mut out).expect("written");
    let text = String::from_utf8(out).expect("UTF-8");
    assert!(text.starts_with("sequence,result_id,"));
    assert_eq!(text.matches("\r\n").count(), 14, "one a line, and the one within the part");
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let last = rows.records().last().expect("rows").expect("well formed");
    assert_eq!(&last[5], "'=HYPERLINK(\"http://x\"),\r\n\"quoted\"");
}

#[test]
fn a_file_is_there_when_it_is_whole() {
    let dir = tempdir().expect("a folder");
    let reader = filled(dir.path()).reader().expect("reads");
    let out = dir.path().join("out.jsonl");
    std::fs::write(&out, b"the one before").expect("written");
    let form = ExportFormat::JsonLines;
    assert_eq!(export_to_file(&reader, &Filter::default(), form, &out).expect("written"), 12);
    assert_eq!(std::fs::read_to_string(&out).expect("is there").lines().count(), 12);
    // The log cannot be read: what was there stays.
    let raw = rusqlite::Connection::open(dir.path().join("inspectd.db")).expect("opens");
    raw.execute_batch("PRAGMA foreign_keys = OFF; DROP TABLE inspections").expect("harmed");
    export_to_file(&reader, &Filter::default(), form, &out).expect_err("no table");
    assert_eq!(std::fs::read_to_string(&out).expect("is there").lines().count(), 12);
    let left = std::fs::read_dir(dir.path()).expect("a folder").flatten();
    let unfinished = |name: &std::fs::DirEntry| {
        name.file_name().to_string_lossy().starts_with(".inspectd-export")
    };
    assert_eq!(left.filter(unfinished).count(), 0);
}

#[test]
fn what_operators_decided_becomes_a_labelled_set() {
    let dir = tempdir().expect("a folder");
    let store = open(dir.path());
    let decide = |job: u64, what| {
        let (path, wanted) = (store.path(), job.to_string());
        let note = Some("looked twice");
        disposition::record(path, &*clock(), &wanted, what, "A. Weber", note).expect("recorded");
    };
    for job in 1..=8u64 {
        let mut picture = inspectd::frame::Rgb8::new(336, 336);
        picture.data.fill(job as u8);
        let mut look = inspection("left", job);
        look.evidence[0].sha256 = store.put_evidence(&picture).expect("kept");
        if job == 7 {
            look.evidence.push(look.evidence[0].clone());
        }
        store.commit(&look, &[]).expect("a commit");
    }
    decide(1, Disposition::Fail);
    decide(1, Disposition::Pass); // the newest counts
    decide(2, Disposition::Scrap); // the record names no defect: which one is it?
    decide(3, Disposition::UseAsIs); // with its defect
    decide(4, Disposition::Pass); // without a serial
    decide(6, Disposition::Pass); // a false alarm
    decide(7, Disposition::Pass); // two pictures
    decide(8, Disposition::Pass);
    let gone = store.reader().expect("reads").find("8").expect("reads").expect("is there");
    let gone = gone.inspection().expect("whole").evidence[0].sha256.clone();
    std::fs::remove_file(store.evidence_path(&gone)).expect("removed");

    let (reader, out) = (store.reader().expect("reads"), dir.path().join("set"));
    let evidence = store.evidence_dir();
    let told = labelled(&reader, &Filter::default(), evidence, None, &out).expect("written");
    let expected = Labelled { complete: 3, incomplete: 2, without_picture: 1, ambiguous: 1 };
    assert_eq!(told, expected);
    let truths: Vec<String> = read_set(&out)
        .expect("a set")
        .iter()
        .map(|truth| format!("{} {truth}", truth.file))
        .collect();
    assert_eq!(
        truths,
        [
            "000001.png pass A7K20001",
            "000003.png fail A7K20003, major scratch upper left",
            "000006.png pass A7K20006"
        ]
    );
    let open = std::fs::read_to_string(out.join("incomplete.jsonl")).expect("is there");
    assert_eq!(open.lines().count(), 2);
    assert!(open.lines().all(|line| line.contains("looked twice")), "{open}");
    let picture = image::open(out.join("000003.png")).expect("a picture").into_rgb8();
    assert_eq!((picture.dimensions(), picture.as_raw()[0]), ((336, 336), 3));

    let again = labelled(&reader, &Filter::default(), evidence, None, &out).expect_err("not empty");
    assert!(again.to_string().contains("not empty"), "{again}");
    let chosen = dir.path().join("chosen");
    let told = labelled(&reader, &Filter::default(), evidence, Some("label"), &chosen);
    assert_eq!(told.expect("written").ambiguous, 0);
}

#[cfg(feature = "parquet")]
mod parquet_file {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field, Row};

    use super::*;

    fn field<'r>(row: &'r Row, name: &str) -> &'r Field {
        let found = row.get_column_iter().find(|(column, _)| *column == name);
        found.map(|(_, field)| field).unwrap_or_else(|| panic!("no column {name}"))
    }

    fn texts(field: &Field) -> Vec<String> {
        let Field::ListInternal(list) = field else { panic!("{field:?} is no list") };
        list.elements()
            .iter()
            .map(|element| match element {
                Field::Str(text) => text.clone(),
                other => panic!("{other:?} is no text"),
            })
            .collect()
    }

    #[test]
    fn is_read_back_equal_by_its_own_reader() {
        let dir = tempdir().expect("a folder");
        let reader = filled(dir.path()).reader().expect("reads");
        let path = dir.path().join("log.parquet");
        let rows = export_to_file(&reader, &Filter::default(), ExportFormat::Parquet, &path);
        assert_eq!(rows.expect("written"), 12);
        let file = std::fs::File::open(&path).expect("is there");
        let parquet = SerializedFileReader::new(file).expect("a Parquet file");
        let rows: Vec<Row> =
            parquet.get_row_iter(None).expect("rows").map(|row| row.expect("whole")).collect();
        let records = reader.list(&Filter::default()).expect("reads");
        assert_eq!(rows.len(), records.len());
        for (row, record) in rows.iter().zip(&records) {
            let look = record.inspection().expect("whole");
            assert_eq!(field(row, "sequence"), &Field::Long(record.sequence));
            assert_eq!(field(row, "part_id"), &Field::Str(record.part_id.clone()));
            let serial = record.serial.clone().map_or(Field::Null, Field::Str);
            assert_eq!(field(row, "serial"), &serial);
            let at = Field::TimestampMillis(record.decided_wall.as_millisecond());
            assert_eq!(field(row, "decided"), &at);
            let seen = look.times.captured.map(|stamp| stamp.wall.as_millisecond());
            assert_eq!(field(row, "captured"), &seen.map_or(Field::Null, Field::TimestampMillis));
            assert_eq!(field(row, "latency_ms"), &Field::Double(812.25));
            assert_eq!(field(row, "is_simulated"), &Field::Bool(false));
            let codes: Vec<String> =
                look.verdict.reasons.iter().map(|reason| reason.code.clone()).collect();
            assert_eq!(texts(field(row, "reasons")), codes);
            let digests: Vec<String> =
                look.evidence.iter().map(|crop| crop.sha256.clone()).collect();
            assert_eq!(texts(field(row, "evidence")), digests);
            assert_eq!(field(row, "model_sha256"), &Field::Str(look.digests.model));
        }
        assert!(rows.iter().any(|row| field(row, "serial") == &Field::Null));
    }

    #[test]
    fn a_long_log_is_written_in_groups_and_an_empty_one_is_a_file() {
        let dir = tempdir().expect("a folder");
        let store = open(dir.path());
        let path = dir.path().join("log.parquet");
        let write = |reader: &Reader| {
            export_to_file(reader, &Filter::default(), ExportFormat::Parquet, &path)
                .expect("written");
            let file = std::fs::File::open(&path).expect("is there");
            let parquet = SerializedFileReader::new(file).expect("a Parquet file");
            let groups = parquet.metadata().row_groups();
            groups.iter().map(|group| group.num_rows()).collect::<Vec<_>>()
        };
        let reader = store.reader().expect("reads");
        assert_eq!(write(&reader), [0; 0]);
        // The rows themselves do not matter here: put in at once, as 10,001 commits take long.
        store.commit(&inspection("left", 1), &[]).expect("a commit");
        let raw = rusqlite::Connection::open(dir.path().join("inspectd.db")).expect("opens");
        raw.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 10001)
             INSERT INTO inspections
             SELECT i, substr(result_id, 1, 28) || printf('%08x', i), station, recipe, i, part_id,
                 verdict, serial, decided_wall_ms, latency_ms, is_simulated, body
             FROM inspections, n WHERE sequence = 1",
        )
        .expect("filled");
        assert_eq!(write(&reader), [10_000, 1]);
    }

    #[test]
    fn is_read_by_duckdb() {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/duckdb/bin/python");
        if !python.exists() {
            eprintln!("SKIPPED: no DuckDB in target/duckdb; scripts/test installs it");
            return;
        }
        let dir = tempdir().expect("a folder");
        let reader = filled(dir.path()).reader().expect("reads");
        let path = dir.path().join("log.parquet");
        export_to_file(&reader, &Filter::default(), ExportFormat::Parquet, &path).expect("written");
        let ask = "import duckdb, sys; t = duckdb.read_parquet(sys.argv[1]); print(t.query('t', \
                   'select count(*), count(serial), typeof(min(decided)), count(captured), \
                   sum(len(reasons)), max(epoch_ms(decided)) from t').fetchall())";
        let told = Command::new(python).args(["-c", ask]).arg(&path).output().expect("runs");
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        let why = String::from_utf8_lossy(&told.stderr);
        // Jobs 4, 8 and 12 have no serial; 3, 6 and 9 a defect; 12 has no reasons here.
        let expected = "[(12, 9, 'TIMESTAMP WITH TIME ZONE', 11, 5, 1784000012000)]";
        assert_eq!(text.trim(), expected, "{why}");
    }
}
