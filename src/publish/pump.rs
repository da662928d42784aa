//! What goes out next: replies and states, results, `last` messages.

use super::link::{Link, Purpose};
use super::message;
use super::session::Session;
use super::topics::{self, Kind};
use super::transport::{Dial, Packet};
use crate::store::OutboxRow;

impl<D: Dial> Session<D> {
    /// Hands over what the window has room for.
    pub(super) async fn pump(&mut self, link: &mut Link<D::Connection>) -> Result<(), String> {
        self.pump_asides(link)?;
        while link.look && link.room(&self.options) > 0 {
            let (room, after) = (link.room(&self.options), link.cursor);
            let rows = self.with_store(move |store| store.unsent(room, after)).await?;
            link.look = rows.len() == room;
            for row in rows {
                link.cursor = row.id;
                match self.packet(&row) {
                    Ok(packet) => link.submit(packet, Purpose::Result(row))?,
                    Err(reason) => self.put_aside(&row, reason).await?,
                }
            }
        }
        // Only when no result waits any more: while a backlog drains, each would be outdated by
        // the next.
        while !link.look && link.room(&self.options) > 0 {
            let Some((station, payload)) = link.lasts.pop_first() else { break };
            let packet = message::packet(&self.topics, Kind::Last, Some(&station), payload);
            link.submit(packet, Purpose::Last)?;
        }
        Ok(())
    }

    /// Replies, then states. They leave half of the window to results, whatever comes in.
    fn pump_asides(&mut self, link: &mut Link<D::Connection>) -> Result<(), String> {
        let most = usize::from(self.options.inflight).div_ceil(2);
        while link.room(&self.options) > 0 && link.asides() < most {
            let Some((packet, is_reply)) = self.steering.outgoing.next() else { break };
            link.submit(packet, if is_reply { Purpose::Reply } else { Purpose::State })?;
        }
        Ok(())
    }

    /// The message of `row`, or why it can never be sent.
    fn packet(&self, row: &OutboxRow) -> Result<Packet, String> {
        topics::check_name(&row.station).map_err(|why| why.to_string())?;
        let payload = row.payload.clone();
        let packet = message::packet(&self.topics, Kind::Result, Some(&row.station), payload);
        let (bytes, most) = (packet.wire_bytes(), self.options.max_packet_bytes);
        if bytes > most {
            return Err(format!("its packet would have {bytes} bytes, max_packet_bytes is {most}"));
        }
        Ok(packet)
    }

    async fn put_aside(&mut self, row: &OutboxRow, reason: String) -> Result<(), String> {
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
