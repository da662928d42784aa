//! What goes out next: births, what has changed, results, deaths.

use std::sync::PoisonError;

use tokio::time::Instant;

use super::history::PAGE_ROWS;
use super::host::PrimaryHost;
use super::node::{Step, millis};
use super::session::{Link, News, Session};
use crate::publish::transport::{Connection, Dial, Packet};
use crate::store::Record;

impl<D: Dial> Session<D> {
    /// Sends what the window has room for.
    pub(super) async fn pump(&mut self, link: &mut Link<D::Connection>) -> Result<(), String> {
        self.take_news();
        if link.open && std::mem::take(&mut self.owes_topics) {
            let topics = self.parts.node.command_topics();
            link.connection.subscribe(&topics).map_err(|why| why.to_string())?;
        }
        if !link.open || !self.host.as_ref().is_none_or(PrimaryHost::is_online) {
            return Ok(());
        }
        if !link.begun {
            self.begin(link).await?;
        }
        self.beat();
        while link.under_way.len() < self.window() {
            let told = link.waiting.is_empty() && !link.look;
            let now = self.parts.clock.now();
            if let Some(step) = self.parts.node.next(told, &now) {
                self.send_step(&step, link)?;
                continue;
            }
            if !self.parts.node.may_send_data() || !self.send_result(link).await? {
                break;
            }
        }
        let born = self.parts.node.is_born();
        if born != self.parts.steering.state.borrow().born {
            self.tell(|state| state.born = born);
        }
        Ok(())
    }

    /// The births are due. What was recorded meanwhile is history, and of too much only the newest.
    async fn begin(&mut self, link: &mut Link<D::Connection>) -> Result<(), String> {
        self.catch_up().await?;
        let (newest, most) = (self.parts.node.noted(), self.parts.options.history_max);
        let results = self.parts.told.pass_over(newest, most);
        if results > 0 {
            self.skipped += results;
            let (skipped, now) = (self.skipped, self.parts.clock.now());
            self.parts.node.set_skipped(skipped, &now);
            self.tell(|state| state.skipped = skipped);
            let text =
                "too many results to tell late by Sparkplug; the oldest stand in the record alone";
            tracing::warn!(results, most, "{text}");
        }
        self.parts.node.begin(link.bd_seq);
        link.begun = true;
        self.backoff.reset();
        Ok(())
    }

    /// Notes every result that is in the record.
    pub(super) async fn catch_up(&mut self) -> Result<(), String> {
        // Results of a station that is new are counted, too.
        self.take_news();
        loop {
            let page = self.parts.rows.after(self.parts.node.noted()).await?;
            for record in &page {
                self.note(record);
            }
            if page.len() < PAGE_ROWS {
                return Ok(());
            }
        }
    }

    fn note(&mut self, record: &Record) {
        match record.inspection() {
            Ok(look) => self.parts.node.note(record.sequence, &look),
            Err(why) => tracing::error!(%why, "a record cannot be told by Sparkplug"),
        }
    }

    fn send_step(&mut self, step: &Step, link: &mut Link<D::Connection>) -> Result<(), String> {
        let now = self.parts.clock.now();
        let draft = self.parts.node.draft(step, &now);
        let packet = draft.packet(self.parts.node.seq(Some(step)), millis(&now));
        self.submit(packet, link)?;
        self.parts.node.accepted(Some(step));
        if *step == Step::NodeBirth {
            tracing::info!(bd_seq = link.bd_seq, "Sparkplug births");
            self.tell(|state| {
                state.births += 1;
                state.last_error = None;
            });
        }
        Ok(())
    }

    /// Sends the next result; `false`: there is none. A birth that has to come first is made due.
    async fn send_result(&mut self, link: &mut Link<D::Connection>) -> Result<bool, String> {
        if link.waiting.is_empty() {
            if !link.look {
                return Ok(false);
            }
            let page = self.parts.rows.after(self.parts.told.cursor()).await?;
            link.look = page.len() == PAGE_ROWS;
            link.waiting = page.into();
        }
        // A station dies when all is told: looking whether that is so is a step of its own.
        let Some(record) = link.waiting.front() else { return Ok(true) };
        let sequence = record.sequence;
        let look = record.inspection();
        let station = self.parts.node.station(&record.station);
        if let (Ok(look), Some(station)) = (look, station) {
            self.parts.node.note(sequence, &look);
            if !self.parts.node.wake_station(station) {
                return Ok(true);
            }
            let draft = self.parts.node.result(station, sequence, &look);
            let now_ms = millis(&self.parts.clock.now());
            let packet = draft.packet(self.parts.node.seq(None), now_ms);
            self.submit(packet, link)?;
            self.parts.node.accepted(None);
            let late = self.parts.node.is_history(sequence);
            self.tell(|state| {
                state.sent += 1;
                state.sent_late += u64::from(late);
            });
        } else {
            tracing::warn!(
                sequence,
                "a result of no station, or in no form that is known, is not told"
            );
        }
        link.waiting.pop_front();
        self.parts.told.hand(sequence, Instant::now());
        Ok(true)
    }

    fn submit(&mut self, packet: Packet, link: &mut Link<D::Connection>) -> Result<(), String> {
        let token = link.connection.try_publish(packet).map_err(|why| why.to_string())?;
        if link.under_way.is_empty() {
            link.progress = Instant::now();
        }
        link.under_way.insert(token);
        Ok(())
    }

    /// Takes what was told of stations.
    pub(super) fn take_news(&mut self) {
        let News { stations, states } = {
            let mut news = self.parts.steering.news.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *news)
        };
        let (node, now) = (&mut self.parts.node, self.parts.clock.now());
        if let Some(stations) = stations {
            self.owes_topics |= node.set_stations(&stations, &now);
        }
        for (name, state) in states {
            if let Some(station) = node.station(&name) {
                node.set_state(station, state, &now);
            }
        }
    }

    fn beat(&mut self) {
        let Some(every) = self.parts.options.heartbeat else { return };
        let now = Instant::now();
        if self.beat_at.is_some_and(|at| at <= now) {
            self.beat_at = Some(now + every);
            self.parts.node.beat(&self.parts.clock.now());
        }
    }
}
