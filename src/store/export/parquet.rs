//! The record as an Apache Parquet file: typed columns, one row a record.
//!
//! Rows are gathered column by column and written a group at a time, so memory is bounded by
//! [`GROUP_ROWS`], not by the record. Compressed by Snappy.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;

use crate::inspection::Inspection;
use crate::store::read::{Filter, Reader, Record};
use crate::store::report::ReportError;

/// Rows of one group. A row takes about 1 kB here, so a group takes about 10 MB of memory.
const GROUP_ROWS: usize = 10_000;

/// The columns, in the order in which [`cells`] answers them. What is read from the body is
/// optional: a record of another version may not have it.
const SCHEMA: &str = "
message inspection {
    REQUIRED INT64 sequence;
    REQUIRED BYTE_ARRAY result_id (STRING);
    OPTIONAL BYTE_ARRAY device (STRING);
    REQUIRED BYTE_ARRAY station (STRING);
    REQUIRED BYTE_ARRAY recipe (STRING);
    REQUIRED INT64 job_id;
    REQUIRED BYTE_ARRAY part_id (STRING);
    REQUIRED BYTE_ARRAY verdict (STRING);
    OPTIONAL BYTE_ARRAY serial (STRING);
    OPTIONAL INT64 triggered (TIMESTAMP(MILLIS,true));
    OPTIONAL INT64 captured (TIMESTAMP(MILLIS,true));
    REQUIRED INT64 decided (TIMESTAMP(MILLIS,true));
    OPTIONAL BOOLEAN clock_synchronized;
    OPTIONAL DOUBLE latency_ms;
    OPTIONAL DOUBLE model_ms;
    REQUIRED BOOLEAN is_simulated;
    OPTIONAL GROUP reasons (LIST) { REPEATED GROUP list { REQUIRED BYTE_ARRAY element (STRING); } }
    OPTIONAL GROUP evidence (LIST) { REPEATED GROUP list { REQUIRED BYTE_ARRAY element (STRING); } }
    OPTIONAL BYTE_ARRAY model_sha256 (STRING);
    OPTIONAL BYTE_ARRAY config_sha256 (STRING);
    OPTIONAL BYTE_ARRAY program_sha256 (STRING);
}";

/// Writes the records that `filter` finds, oldest first; answers how many.
pub(super) fn write(
    reader: &Reader,
    filter: &Filter,
    out: &mut (dyn Write + Send),
) -> Result<u64, ReportError> {
    let schema = Arc::new(parse_message_type(SCHEMA).map_err(output)?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("inspectd ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut file = SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(output)?;
    let width = file.schema_descr().num_columns();
    let mut group = Group::new(width);
    let mut rows = 0;
    reader.scan(filter, |record| -> Result<(), ReportError> {
        rows += 1;
        group.push(cells(record));
        if group.rows == GROUP_ROWS {
            std::mem::replace(&mut group, Group::new(width)).write(&mut file).map_err(output)?;
        }
        Ok(())
    })?;
    group.write(&mut file).map_err(output)?;
    file.close().map_err(output)?;
    Ok(rows)
}

/// A value of one row.
enum Cell {
    Absent,
    Whole(i64),
    Number(f64),
    Flag(bool),
    Text(String),
    List(Vec<String>),
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Absent, Into::into)
    }
}

impl From<i64> for Cell {
    fn from(value: i64) -> Cell {
        Cell::Whole(value)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Cell {
        Cell::Number(value)
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Cell {
        Cell::Flag(value)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Cell {
        Cell::Text(value.to_owned())
    }
}

/// The values of one row, in the order of [`SCHEMA`].
fn cells(record: &Record) -> Vec<Cell> {
    // A body of another form still has its columns.
    let look: Option<Inspection> = record.inspection().ok();
    let look = look.as_ref();
    let codes = |look: &Inspection| {
        look.verdict.reasons.iter().map(|reason| reason.code.clone()).collect::<Vec<_>>()
    };
    let digests = |look: &Inspection| {
        look.evidence.iter().map(|crop| crop.sha256.clone()).collect::<Vec<_>>()
    };
    let times = look.map(|look| &look.times);
    let captured = times.and_then(|times| times.captured.as_ref());
    vec![
        record.sequence.into(),
        record.result_id.as_str().into(),
        look.map(|look| look.device.as_str()).into(),
        record.station.as_str().into(),
        record.recipe.as_str().into(),
        record.job_id.into(),
        record.part_id.as_str().into(),
        record.verdict.as_str().into(),
        record.serial.as_deref().into(),
        times.map(|times| times.triggered.wall.as_millisecond()).into(),
        captured.map(|stamp| stamp.wall.as_millisecond()).into(),
        record.decided_wall.as_millisecond().into(),
        times.map(|times| times.clock_synchronized).into(),
        record.latency_ms.into(),
        look.map(|look| look.timings.model_ms).into(),
        record.is_simulated.into(),
        look.map_or(Cell::Absent, |look| Cell::List(codes(look))),
        look.map_or(Cell::Absent, |look| Cell::List(digests(look))),
        look.map(|look| look.digests.model.as_str()).into(),
        look.map(|look| look.digests.config.as_str()).into(),
        look.map(|look| look.digests.program.as_str()).into(),
    ]
}

/// Rows, turned into columns.
struct Group {
    columns: Vec<Column>,
    rows: usize,
}

/// The values of one column with the levels by which Parquet tells absent values and lists.
#[derive(Default)]
struct Column {
    wholes: Vec<i64>,
    numbers: Vec<f64>,
    flags: Vec<bool>,
    texts: Vec<ByteArray>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

impl Group {
    fn new(width: usize) -> Group {
        Group { columns: (0..width).map(|_| Column::default()).collect(), rows: 0 }
    }

    fn push(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.columns.len(), "one value for each column of the schema");
        self.columns.iter_mut().zip(cells).for_each(|(column, cell)| column.push(cell));
        self.rows += 1;
    }

    fn write<W: Write + Send>(
        self,
        file: &mut SerializedFileWriter<W>,
    ) -> Result<(), ParquetError> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = file.next_row_group()?;
        for column in self.columns {
            let Some(mut writer) = group.next_column()? else { break };
            column.write(&mut writer)?;
            writer.close()?;
        }
        group.close().map(drop)
    }
}

impl Column {
    /// Levels: 0 the value is absent; of a list, 1 it is empty and 2 an element; else 1 a value.
    fn push(&mut self, cell: Cell) {
        let mut is_there = 1;
        match cell {
            Cell::Absent => is_there = 0,
            Cell::Whole(value) => self.wholes.push(value),
            Cell::Number(value) => self.numbers.push(value),
            Cell::Flag(value) => self.flags.push(value),
            Cell::Text(value) => self.texts.push(ByteArray::from(value.into_bytes())),
            Cell::List(values) if values.is_empty() => {}
            Cell::List(values) => {
                for (at, value) in values.into_iter().enumerate() {
                    self.texts.push(ByteArray::from(value.into_bytes()));
                    self.definitions.push(2);
                    self.repetitions.push(i16::from(at > 0));
                }
                return;
            }
        }
        self.definitions.push(is_there);
        self.repetitions.push(0);
    }

    /// Levels of a column that needs none are not looked at by the writer.
    fn write(&self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        use parquet::column::writer::ColumnWriter as Writer;
        let (defs, reps) = (Some(&self.definitions[..]), Some(&self.repetitions[..]));
        match writer.untyped() {
            Writer::Int64ColumnWriter(_) => {
                writer.typed::<Int64Type>().write_batch(&self.wholes, defs, reps)
            }
            Writer::DoubleColumnWriter(_) => {
                writer.typed::<DoubleType>().write_batch(&self.numbers, defs, reps)
            }
            Writer::BoolColumnWriter(_) => {
                writer.typed::<BoolType>().write_batch(&self.flags, defs, reps)
            }
            _ => writer.typed::<ByteArrayType>().write_batch(&self.texts, defs, reps),
        }
        .map(drop)
    }
}

/// An error of the file below stays one of the file, so that a full disk is told as such.
fn output(why: ParquetError) -> ReportError {
    ReportError::Output(match why {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => *io,
            Err(other) => std::io::Error::other(other),
        },
        other => std::io::Error::other(other),
    })
}
