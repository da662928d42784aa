//! What a controller and hard outputs are told.

use super::{Desk, Inner, ReplyTo};
use crate::hard::board;
use crate::plc::ring::Waiting;
use crate::plc::{Reply, message};
use crate::publish::outgoing::NotTaken;
use crate::publish::topics::Kind;
use crate::publish::{PublisherHandle, envelope, inbox};
use crate::store::{EventKind, StoreError, events};
use crate::telemetry;

impl Desk {
    pub(super) fn show(&self, change: impl FnOnce(&mut board::Board)) {
        if let Some(panel) = &self.panel {
            panel.update(change);
        }
    }

    pub(super) fn show_status(&self, inner: &Inner) {
        self.show(|board| board.set_status((&inner.contract.state()).into()));
    }

    /// Tells what has changed since it was told last. Whoever cannot be told now gets the state on
    /// the next connection; events and replies are lost, as their moment is.
    pub(super) fn tell(&self, inner: &mut Inner) {
        self.show_status(inner);
        if !self.has_contract {
            // Nobody is told; what an operator should know is logged where it happens.
            inner.contract.take_events();
            return;
        }
        for event in inner.contract.take_events() {
            telemetry::contract(&self.name, &event);
            self.send(|wire| wire.publish_event(Kind::Event, Some(&self.name), event.payload()));
        }
        if let Some(reply) = inner.contract.take_switched() {
            if reply.accepted
                && let Err(why) = self.keep_recipe(inner)
            {
                // It is active all the same; only a restart would not know.
                telemetry::record_failed(&why.to_string());
            }
            let to = std::mem::take(&mut inner.switch_reply);
            self.answer(&reply, &to);
        }
        if self.wire.get().is_none() {
            return;
        }
        let state = inner.contract.state();
        if inner.told_state.as_ref() != Some(&state) {
            self.send(|wire| wire.publish_state(Kind::State, Some(&self.name), state.payload()));
            inner.told_state = Some(state);
        }
        let Some(oldest) = inner.contract.oldest_pending() else { return };
        let name = oldest.map(|waiting| waiting.result_id.clone());
        if inner.told_pending.as_ref() != Some(&name) {
            let payload = oldest.map_or_else(message::nothing_pending, kept_for_later);
            self.send(|wire| wire.publish_state(Kind::Pending, Some(&self.name), payload));
            inner.told_pending = Some(name);
        }
    }

    /// Keeps which recipe is active now, and that it was changed.
    pub(super) fn keep_recipe(&self, inner: &Inner) -> Result<(), StoreError> {
        let active = inner.active();
        self.store.keep_recipe(&self.name, active.recipe_index)?;
        let change = events::Recipe {
            station: self.name.clone(),
            index: active.recipe_index,
            recipe: active.recipe.clone(),
            config_sha256: active.config_digest.clone(),
        };
        self.store.append_event(EventKind::Recipe, &change).map(drop)
    }

    pub(super) fn answer(&self, reply: &Reply, to: &ReplyTo) {
        let (payload, correlation) = (reply.payload(), to.correlation.clone());
        let topics = to.response_topic.iter().chain([&to.topic]).filter(|topic| !topic.is_empty());
        for topic in topics {
            let (topic, payload, correlation) =
                (topic.clone(), payload.clone(), correlation.clone());
            let reply = inbox::Reply { topic, payload, correlation, schema: Kind::Reply.schema() };
            self.send(|wire| wire.reply(reply));
        }
    }

    /// Tells of the heartbeat with this number.
    pub fn beat(&self, counter: u64) {
        let payload = message::heartbeat(&self.name, counter, &self.clock.now());
        self.send(|wire| wire.publish_event(Kind::Heartbeat, Some(&self.name), payload));
    }

    pub(super) fn send(&self, send: impl FnOnce(&PublisherHandle) -> Result<(), NotTaken>) {
        let Some(wire) = self.wire.get().filter(|_| self.has_contract) else { return };
        match send(wire) {
            Ok(()) | Err(NotTaken::NotConnected) => {}
            Err(why) => telemetry::not_told(&self.name, &why.to_string()),
        }
    }
}

/// A result as it is kept for whoever missed it: marked, as what comes late is no order to act.
fn kept_for_later(waiting: &Waiting) -> Vec<u8> {
    envelope::seal(&waiting.payload, true).unwrap_or_else(|| waiting.payload.clone())
}
