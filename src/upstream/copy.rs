//! The loop of the copy: connect, see how far the table is, add what follows, wait.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::access::Link;
use super::batch::{Chain, Writer, other_record};
use super::error::UpstreamError;
use super::kept::Kept;
use super::options::UpstreamOptions;
use super::survey::{Piece, Survey};
use super::{UpstreamState, tables};
use crate::publish::backoff::Backoff;
use crate::store::Reader;

/// How often the log is looked at for new records. Records are added by other processes, too (dispositions), so
/// a call from the recorder would not do.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often the file is written that tells the next start how far the copy had come.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// One log on its way to one server.
pub struct Session {
    options: UpstreamOptions,
    reader: Reader,
    chain: Chain,
    kept: Kept,
    kept_at: Instant,
    /// The last record that is known to be in the table.
    cursor: i64,
    /// `None`: the table was not looked at yet, or all of it has been.
    survey: Option<Survey>,
    is_surveyed: bool,
    backoff: Backoff,
    state: watch::Sender<UpstreamState>,
    stop: watch::Receiver<bool>,
}

impl Drop for Session {
    /// Nobody else would say that nothing is copied any more.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = "the copy's thread ended by a fault of inspectd, please report it; the next start goes on";
            self.tell(|state| (state.connected, state.last_error) = (false, Some(text.to_owned())));
        }
    }
}

impl Session {
    pub fn new(
        options: UpstreamOptions,
        reader: Reader,
        state: watch::Sender<UpstreamState>,
        stop: watch::Receiver<bool>,
    ) -> Result<Session, UpstreamError> {
        let genesis = reader.genesis()?;
        let kept = Kept::open(&options.kept, genesis.chain_id);
        let backoff = Backoff::new(options.backoff_min, options.backoff_max);
        let session = Session {
            cursor: kept.copied(),
            chain: Chain { id: genesis.chain_id, device: genesis.device },
            options,
            reader,
            kept,
            kept_at: Instant::now(),
            survey: None,
            is_surveyed: false,
            backoff,
            state,
            stop,
        };
        session.look()?;
        Ok(session)
    }

    /// Copies until it is told to stop; then what waits is copied first, if there is a connection.
    pub async fn run(&mut self) {
        loop {
            let Err(why) = self.serve().await else { break };
            self.tell_failure(&why);
            let wait = match why.is_conflict() {
                true => self.options.backoff_max,
                false => self.backoff.next(rand::random()),
            };
            if self.pause(wait).await {
                break;
            }
        }
        self.tell(|state| state.connected = false);
    }

    /// Notes how far it has come, for the next start.
    pub fn keep(&mut self) {
        self.kept.set(self.cursor);
        self.kept.write();
        self.kept_at = Instant::now();
    }

    /// One connection, from its beginning to its first error; `Ok`: it is told to stop, and nothing waits.
    async fn serve(&mut self) -> Result<(), UpstreamError> {
        let mut link = Link::open(&self.options).await?;
        tables::make_sure(&mut link).await?;
        let writer = Writer::new(&link).await?;
        self.confirm(&link, &writer).await?;
        tracing::info!(server = self.options.place(), from = self.cursor, "PostgreSQL connected");
        self.tell(|state| state.connected = true);
        let mut confirmed = Instant::now();
        loop {
            let is_busy = self.copy_next(&mut link, &writer).await?;
            // Not before: what was refused may be refused again.
            self.state.send_if_modified(|state| {
                let (error, conflict) = (state.last_error.take(), state.conflict.take());
                error.is_some() || conflict.is_some()
            });
            if is_busy {
                continue;
            }
            if self.is_told_to_stop() {
                return Ok(());
            }
            if self.survey_next(&mut link, &writer).await? {
                continue;
            }
            if confirmed.elapsed() >= self.options.confirm_every {
                self.confirm(&link, &writer).await?;
                confirmed = Instant::now();
            }
            if link.client.is_closed() {
                let why = "the connection ended".to_owned();
                return Err(UpstreamError::Connect { place: self.options.place(), why });
            }
            if self.kept_at.elapsed() >= KEEP_EVERY {
                self.keep();
            }
            self.rest().await?;
        }
    }

    /// Sees how far the table is, and that its end is the log's own. That alone says where to go on: whatever
    /// was cut off, here or there, is then either in the table or still to be copied.
    async fn confirm(&mut self, link: &Link, writer: &Writer) -> Result<(), UpstreamError> {
        let there = writer.end(link, &self.chain).await?;
        let sequence = there.map_or(0, |end| end.sequence);
        if let Some(end) = there {
            match self.reader.chain_at(end.sequence)? {
                Some((digest, _)) if digest == end.digest => {}
                Some(_) => return Err(other_record(&self.chain, end.sequence)),
                None => return Err(self.log_is_behind(end.sequence)?),
            }
        }
        if sequence < self.cursor {
            let had = self.cursor;
            let text = "PostgreSQL has lost records that it was given; they are copied again";
            tracing::warn!(had, has = sequence, "{text}");
            self.tell(|state| state.lost += had.abs_diff(sequence));
            self.is_surveyed = false;
        }
        self.cursor = sequence;
        if !self.is_surveyed {
            self.survey = Some(Survey::new(sequence, self.options.batch_records));
            self.is_surveyed = true;
        }
        self.look()
    }

    fn log_is_behind(&self, there: i64) -> Result<UpstreamError, UpstreamError> {
        let (end, id) = (self.reader.chain_end()?, self.chain.id);
        Ok(UpstreamError::Conflict(format!(
            "PostgreSQL holds {there} records of the log {id}, which itself has {end}: the audit log was \
             put back to an older state, or two devices run with copies of one log; nothing more is \
             copied from here"
        )))
    }

    /// Copies the records that follow; `false`: there are none.
    async fn copy_next(&mut self, link: &mut Link, writer: &Writer) -> Result<bool, UpstreamError> {
        let (most, bytes) = (self.options.batch_records, self.options.batch_bytes);
        let records = self.reader.chain_records(self.cursor, i64::MAX, most, bytes)?;
        let Some(last) = records.last() else { return Ok(false) };
        let added = writer.append(link, &self.chain, &records).await?;
        self.cursor = last.sequence;
        self.backoff.reset();
        self.tell(|state| {
            state.copied += added;
            state.last_copy = Some(std::time::Instant::now());
        });
        self.look()?;
        Ok(true)
    }

    /// Looks at a piece of what was copied before, and copies again what is missing in it; `false`: all has
    /// been looked at.
    async fn survey_next(
        &mut self,
        link: &mut Link,
        writer: &Writer,
    ) -> Result<bool, UpstreamError> {
        let Some(mut survey) = self.survey.take() else { return Ok(false) };
        let Some(piece) = survey.next() else { return Ok(false) };
        let done = match writer.count(link, &self.chain, piece).await {
            Ok(count) => match survey.counted(piece, count) {
                Piece::Done => Ok(()),
                Piece::Copy(range) => self.fill(link, writer, range).await,
            },
            Err(why) => Err(why),
        };
        if done.is_err() {
            survey.put_back(piece);
        }
        self.survey = Some(survey);
        done.map(|()| true)
    }

    async fn fill(
        &mut self,
        link: &mut Link,
        writer: &Writer,
        (mut after, upto): (i64, i64),
    ) -> Result<(), UpstreamError> {
        let (most, bytes) = (self.options.batch_records, self.options.batch_bytes);
        let mut filled = 0;
        while after < upto {
            let records = self.reader.chain_records(after, upto, most, bytes)?;
            let Some(last) = records.last() else { break };
            after = last.sequence;
            filled += writer.append(link, &self.chain, &records).await?;
        }
        if filled > 0 {
            let text = "records were missing in PostgreSQL and were copied again";
            tracing::warn!(filled, upto, "{text}");
            self.tell(|state| {
                state.lost += filled;
                state.copied += filled;
            });
        }
        Ok(())
    }

    /// Waits until there may be new records, or it is told to stop.
    async fn rest(&mut self) -> Result<(), UpstreamError> {
        self.look()?;
        let told = async {
            // A handle that is gone means the same.
            let _ = self.stop.wait_for(|stop| *stop).await;
        };
        tokio::select! {
            () = told => {}
            () = sleep(LOOK_EVERY) => {}
        }
        Ok(())
    }

    /// Waits for the next connection, and looks meanwhile how much waits; `true`: it is told to stop.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        while Instant::now() < until {
            if self.is_told_to_stop() {
                return true;
            }
            if let Err(why) = self.rest().await {
                tracing::error!(%why, "the audit log cannot be read for its copy");
                sleep(LOOK_EVERY).await;
            }
        }
        self.is_told_to_stop()
    }

    /// A handle that is gone tells it, too.
    fn is_told_to_stop(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    /// Tells how much waits, and since when.
    fn look(&self) -> Result<(), UpstreamError> {
        let newest = self.reader.chain_end()?;
        let waiting = u64::try_from(newest - self.cursor).unwrap_or(0);
        let oldest = match waiting {
            0 => None,
            _ => self.reader.chain_at(self.cursor + 1)?.map(|(_, wall_ms)| wall_ms),
        };
        self.state.send_if_modified(|state| {
            let before = (state.waiting, state.oldest_wall_ms);
            (state.waiting, state.oldest_wall_ms) = (waiting, oldest);
            before != (waiting, oldest)
        });
        Ok(())
    }

    fn tell_failure(&self, why: &UpstreamError) {
        let (text, is_conflict) = (why.to_string(), why.is_conflict());
        let before = self.state.borrow().last_error.clone();
        // Each attempt fails in the same way: once is enough.
        if before.as_ref() != Some(&text) {
            match is_conflict {
                true => tracing::error!(why = text, "THE COPY TO POSTGRESQL STANDS STILL."),
                false => tracing::warn!(why = text, "not copied to PostgreSQL; records wait"),
            }
        }
        self.tell(|state| {
            state.connected = false;
            state.conflict = is_conflict.then(|| text.clone());
            state.last_error = Some(text);
        });
    }

    fn tell(&self, change: impl FnOnce(&mut UpstreamState)) {
        self.state.send_modify(change);
    }
}
