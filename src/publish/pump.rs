//! What goes out next: replies and states, results, `last` messages.

use std::collections::HashSet;

use tokio::time::Instant;

use super::envelope;
use super::link::{Link, Purpose};
use super::message::Status;
use super::outgoing::Next;
use super::pace::LIVE_RUN;
use super::session::{Session, status};
use super::topics::{self, Kind};
use super::transport::{Connection, Dial, Packet};
use crate::fault;
use crate::store::OutboxRow;

impl<D: Dial> Session<D> {
    /// Hands over what the window has room for.
    pub(super) async fn pump(&mut self, link: &mut Link<D::Connection>) -> Result<(), String> {
        self.pump_asides(link)?;
        self.pump_trials(link).await?;
        loop {
            let room = link.room(&self.options);
            if room == 0 {
                break;
            }
            let backlog = self.backlog_room(link, room);
            let backlog_has_turn = !link.look_live || link.live_run >= LIVE_RUN;
            if backlog > 0 && backlog_has_turn {
                let most = if link.look_live { 1 } else { backlog };
                self.pump_backlog(link, most).await?;
            } else if link.look_live {
                if link.live_run >= LIVE_RUN {
                    // Backlog could not use its turn.
                    link.live_run = 0;
                }
                self.pump_live(link, room.min(LIVE_RUN - link.live_run)).await?;
            } else {
                break;
            }
        }
        // Only when no live result waits: each would be outdated by the next.
        while !link.look_live && link.room(&self.options) > 0 {
            let Some((station, payload)) = link.lasts.pop_first() else { break };
            let packet = self.packets.packet(Kind::Last, Some(&station), payload);
            if packet.wire_bytes() <= link.max_packet(&self.options).0 {
                link.submit(packet, Purpose::Last)?;
            }
        }
        Ok(())
    }

    /// Replies, then states. They leave half of the window to results, whatever comes in.
    fn pump_asides(&mut self, link: &mut Link<D::Connection>) -> Result<(), String> {
        let most = link.window(&self.options).div_ceil(2);
        let (most_bytes, whose) = link.max_packet(&self.options);
        while link.room(&self.options) > 0 && link.asides() < most {
            let (packet, purpose) = match self.steering.outgoing.next() {
                None => break,
                Some(Next::Stations(stations)) => {
                    self.have_stations(stations, link)?;
                    continue;
                }
                Some(Next::Reply(packet)) => (packet, Purpose::Reply),
                Some(Next::State(packet)) => (packet, Purpose::State),
            };
            let (bytes, topic) = (packet.wire_bytes(), &packet.topic);
            if bytes > most_bytes {
                tracing::error!(
                    topic,
                    bytes,
                    most_bytes,
                    whose,
                    "a message is too long and was dropped"
                );
                continue;
            }
            link.submit(packet, purpose)?;
        }
        Ok(())
    }

    /// The device has these stations: their commands are subscribed to, and the status names them. The last will names
    /// those of the dial.
    fn have_stations(
        &mut self,
        stations: Vec<String>,
        link: &mut Link<D::Connection>,
    ) -> Result<(), String> {
        self.options.stations = stations;
        let asked = std::mem::take(&mut self.subscriptions);
        self.subscriptions = self.steering.hearers.filters();
        let more = self.subscriptions.iter().filter(|filter| !asked.contains(filter));
        let more: Vec<String> = more.cloned().collect();
        if !more.is_empty() && link.connection.subscribe(&more).is_err() {
            // The next connection asks for all of them.
            return Err("the connection takes no subscription now".to_owned());
        }
        let online = status(&self.options, &self.packets, Status::Online(self.clock.now()));
        link.submit(online, Purpose::Status)
    }

    /// How many rows of backlog may go now, at most `room`.
    fn backlog_room(&mut self, link: &Link<D::Connection>, room: usize) -> usize {
        if !link.look_backlog {
            return 0;
        }
        let half = link.window(&self.options).div_ceil(2);
        let free = half.saturating_sub(link.replays());
        room.min(free).min(self.pace.allowed(Instant::now()))
    }

    /// When backlog that waits may go; `None` if it waits for something else.
    pub(super) fn backlog_due(&self, link: &Link<D::Connection>) -> Option<Instant> {
        let half = link.window(&self.options).div_ceil(2);
        let waits = link.connected && link.look_backlog;
        let has_room = link.room(&self.options) > 0 && link.replays() < half;
        (waits && has_room).then(|| self.pace.next())
    }

    async fn pump_live(
        &mut self,
        link: &mut Link<D::Connection>,
        most: usize,
    ) -> Result<(), String> {
        let rows = self.rows(link.ids(), self.pace.boundary(), i64::MAX, most).await?;
        link.look_live = rows.len() >= most;
        link.live_run = link.live_run.saturating_add(rows.len());
        self.hand_over(link, rows, false).await
    }

    async fn pump_backlog(
        &mut self,
        link: &mut Link<D::Connection>,
        most: usize,
    ) -> Result<(), String> {
        let rows = self.rows(link.ids(), 0, self.pace.boundary(), most).await?;
        link.look_backlog = rows.len() >= most;
        link.live_run = 0;
        self.pace.spend(rows.len());
        self.hand_over(link, rows, true).await
    }

    /// One result of each station that the broker did not take anything of, if its time has come.
    async fn pump_trials(&mut self, link: &mut Link<D::Connection>) -> Result<(), String> {
        for (station, id) in self.blocks.due(Instant::now()) {
            if link.room(&self.options) == 0 || link.ids().contains(&id) {
                continue;
            }
            let rows = self.with_store(move |store| store.unsent(1, id - 1, id, &[])).await?;
            if rows.is_empty() {
                // It was put aside: the next one tells.
                self.unblock(&station, link);
            } else {
                let replayed = id <= self.pace.boundary();
                self.hand_over(link, rows, replayed).await?;
            }
        }
        Ok(())
    }

    /// The oldest rows above `after` and up to `upto` that may be handed over, at most `most`: none
    /// of those under way, and none of stations that wait.
    async fn rows(
        &self,
        under_way: HashSet<i64>,
        after: i64,
        upto: i64,
        most: usize,
    ) -> Result<Vec<OutboxRow>, String> {
        let blocked = self.blocks.stations();
        let limit = most + under_way.len();
        let rows = self.with_store(move |store| store.unsent(limit, after, upto, &blocked)).await?;
        Ok(rows.into_iter().filter(|row| !under_way.contains(&row.id)).take(most).collect())
    }

    async fn hand_over(
        &mut self,
        link: &mut Link<D::Connection>,
        rows: Vec<OutboxRow>,
        replayed: bool,
    ) -> Result<(), String> {
        for row in rows {
            match self.packet(&row, replayed, link) {
                Ok(packet) => {
                    let handed_over = self.clock.now().wall;
                    link.submit(packet, Purpose::Result { row, replayed, handed_over })?;
                    fault::point(fault::RESULT_HANDED_OVER);
                }
                Err(reason) => self.put_aside(&row, reason).await?,
            }
        }
        Ok(())
    }

    /// The message of `row`, or why it can never be sent.
    fn packet(
        &self,
        row: &OutboxRow,
        replayed: bool,
        link: &Link<D::Connection>,
    ) -> Result<Packet, String> {
        topics::check_name(&row.station).map_err(|why| why.to_string())?;
        let (most, whose) = link.max_packet(&self.options);
        let sealed = |body: &[u8]| {
            let payload = envelope::seal(body, replayed)?;
            Some(self.packets.packet(Kind::Result, Some(&row.station), payload))
        };
        let packet = sealed(&row.payload).ok_or_else(|| "it is no JSON object".to_owned())?;
        let bytes = packet.wire_bytes();
        if bytes <= most {
            return Ok(packet);
        }
        let cut = envelope::without_thumbnail(&row.payload).and_then(|body| sealed(&body));
        cut.filter(|packet| packet.wire_bytes() <= most)
            .ok_or_else(|| format!("its packet would have {bytes} bytes, {whose} is {most}"))
    }

    pub(super) async fn put_aside(
        &mut self,
        row: &OutboxRow,
        reason: String,
    ) -> Result<(), String> {
        let result_id = row.result_id.as_str();
        tracing::error!(
            result_id,
            reason,
            "a result can never be published and was put aside; it stays in the record"
        );
        let id = row.id;
        self.with_store(move |store| store.quarantine(id, &reason)).await?;
        self.refresh().await;
        Ok(())
    }
}
