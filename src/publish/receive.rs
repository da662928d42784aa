//! What the broker says: greeting, acknowledgements, refusals, messages.

use tokio::time::Instant;

use super::deliveries::{Acknowledged, Delivered};
use super::link::{Link, Purpose, UnderWay};
use super::message::Status;
use super::session::{Session, status};
use super::topics::Kind;
use super::transport::{Connection, Decline, Dial, Event, Incoming, Limits, NotSubscribed, Token};
use crate::fault;

/// Most events taken in before results go out again.
const TAKE_MAX: usize = 64;

impl<D: Dial> Session<D> {
    /// Takes in one event and all that are there already.
    pub(super) async fn take(
        &mut self,
        event: Event,
        link: &mut Link<D::Connection>,
    ) -> Result<(), String> {
        let mut rows = Vec::new();
        let mut closed = Ok(());
        let mut next = Some(event);
        let mut taken = 0;
        while let Some(event) = next {
            taken += 1;
            match event {
                Event::Connected(limits) => self.accepted(limits, link).await?,
                Event::Subscribed(refused) => {
                    self.note_subscriptions(refused, link.connected);
                    if !link.connected {
                        self.greet(link).await?;
                    }
                }
                Event::Message(message) => self.hand_in(message),
                // All of ours go at QoS 1.
                Event::Written(_) => {}
                Event::Declined { token, reason, decline } => {
                    self.declined(token, reason, decline, link).await?;
                }
                Event::Acknowledged(token) => {
                    link.progress = Instant::now();
                    let purpose =
                        link.outstanding.remove(&token).map(|under_way| under_way.purpose);
                    if let Some(Purpose::Result { row, replayed: is_replayed, handed_over }) =
                        purpose
                    {
                        self.unblock(&row.station, link);
                        let acknowledged = self.clock.now().wall;
                        rows.push(Acknowledged { row, is_replayed, handed_over, acknowledged });
                        self.delivered();
                    } else if link.results() == 0 {
                        // A status alone is no proof while results wait: a broker that cuts the
                        // connection on one of them would be dialled without a pause.
                        self.delivered();
                    }
                }
                Event::Closed(why) => {
                    closed = Err(why);
                    break;
                }
            }
            // What comes in without end must not keep results from going out.
            next = if taken < TAKE_MAX { link.connection.try_next() } else { None };
        }
        if !rows.is_empty() {
            self.mark_sent(rows, link).await?;
        }
        closed
    }

    /// The broker took something: what was wrong is over.
    fn delivered(&mut self) {
        self.backoff.reset();
        self.steering.state.send_if_modified(|state| state.last_error.take().is_some());
    }

    /// The broker has this message and did not take it.
    async fn declined(
        &mut self,
        token: Token,
        reason: String,
        decline: Decline,
        link: &mut Link<D::Connection>,
    ) -> Result<(), String> {
        link.progress = Instant::now();
        let Some(UnderWay { purpose, bytes }) = link.outstanding.remove(&token) else {
            return Ok(());
        };
        if decline == Decline::TooLong {
            // Tried again, it goes without its thumbnail, or is put aside as too long.
            // If any under way is too long, the longest is: true whichever the broker meant.
            let others = link.outstanding.values().map(|under_way| under_way.bytes);
            let longest = others.fold(bytes, usize::max);
            tracing::error!(bytes = longest, reason, "the broker did not take a message");
            self.learn_limit(longest.saturating_sub(1), link);
            return Ok(());
        }
        match purpose {
            Purpose::Result { row, .. } if decline == Decline::ForGood => {
                self.put_aside(&row, format!("the broker did not take it: {reason}")).await
            }
            Purpose::Result { row, .. } => {
                tracing::error!(station = row.station, reason, "the broker did not take a result");
                self.blocks.note(&row.station, row.id, Instant::now(), rand::random());
                link.look_again();
                self.steering.state.send_modify(|state| {
                    state.declined.insert(row.station, reason);
                });
                Ok(())
            }
            _ => {
                tracing::error!(reason, "the broker did not take a message that is no result");
                Ok(())
            }
        }
    }

    /// Packets of more than `most` bytes are not to be sent any more.
    fn learn_limit(&mut self, most: usize, link: &mut Link<D::Connection>) {
        let known = self.learned_max_bytes.map_or(most, |known| known.min(most));
        self.learned_max_bytes = Some(known);
        let said = link.limits.max_packet_bytes;
        link.limits.max_packet_bytes = Some(said.map_or(known, |said| said.min(known)));
        link.look_again();
    }

    pub(super) fn unblock(&mut self, station: &str, link: &mut Link<D::Connection>) {
        if self.blocks.lift(station) {
            link.look_again();
        }
        let state = &self.steering.state;
        state.send_if_modified(|state| state.declined.remove(station).is_some());
    }

    async fn mark_sent(
        &mut self,
        rows: Vec<Acknowledged>,
        link: &mut Link<D::Connection>,
    ) -> Result<(), String> {
        let ids: Vec<i64> = rows.iter().map(|one| one.row.id).collect();
        fault::point(fault::RESULT_ACKNOWLEDGED);
        self.with_store(move |store| store.mark_sent(&ids)).await?;
        fault::point(fault::RESULT_MARKED);
        self.steering.state.send_modify(|state| state.sent += rows.len() as u64);
        for one in rows {
            self.tell_delivered(&one);
            link.note_last(one.row, one.is_replayed);
        }
        if !link.look_live && link.results() == 0 {
            self.refresh().await;
        }
        Ok(())
    }

    fn tell_delivered(&self, one: &Acknowledged) {
        let Some(hearer) = &self.steering.hearers.deliveries else { return };
        hearer.delivered(&Delivered {
            row: &one.row,
            broker: (&self.options.host, self.options.port),
            topic: &self.packets.topics().of(Kind::Result, Some(&one.row.station)),
            is_replayed: one.is_replayed,
            handed_over: one.handed_over,
            acknowledged: one.acknowledged,
        });
    }

    /// The broker has accepted us. Subscriptions, if there are any, are answered before more is said.
    async fn accepted(
        &mut self,
        limits: Limits,
        link: &mut Link<D::Connection>,
    ) -> Result<(), String> {
        link.limits = limits;
        if let Some(most) = self.learned_max_bytes {
            self.learn_limit(most, link);
        }
        link.progress = Instant::now();
        if self.subscriptions.is_empty() { self.greet(link).await } else { Ok(()) }
    }

    /// The broker has accepted us: the status first, and the newest results for its memory.
    async fn greet(&mut self, link: &mut Link<D::Connection>) -> Result<(), String> {
        tracing::info!(
            host = self.options.host,
            port = self.options.port,
            "connected to the MQTT broker"
        );
        link.connected = true;
        link.look_again();
        link.progress = Instant::now();
        let online = status(&self.options, &self.packets, Status::Online(self.clock.now()));
        link.submit(online, Purpose::Status)?;
        self.steering.outgoing.connected();
        let stations = self.options.stations.clone();
        let newest = self
            .with_store(move |store| {
                let newest = stations.iter().map(|station| store.last_sent(station));
                newest.collect::<Result<Vec<_>, _>>()
            })
            .await?;
        for row in newest.into_iter().flatten() {
            link.note_last(row, true);
        }
        self.steering.state.send_modify(|state| state.connected = true);
        Ok(())
    }

    /// Gives a message to the one who asked for it; a refusal goes out as its reply.
    fn hand_in(&self, message: Incoming) {
        let Some(inbox) = &self.steering.hearers.inbox else { return };
        if let Some(reply) = inbox.take(message)
            && let Err(why) = self.steering.outgoing.put_reply(self.packets.reply(reply))
        {
            tracing::warn!(%why, "a reply was dropped");
        }
    }

    /// `are_more`: of a connection that had asked for others before.
    fn note_subscriptions(&self, refused: Vec<NotSubscribed>, are_more: bool) {
        for NotSubscribed { filter, reason } in &refused {
            tracing::error!(filter, reason, "the MQTT broker does not let us subscribe");
        }
        self.steering.state.send_modify(|state| {
            if !are_more {
                state.not_subscribed.clear();
            }
            state.not_subscribed.extend(refused);
        });
    }
}
