//! What comes in: the primary host's state, and what hosts write.

use srad_types::payload::metric::Value;

use super::command::{self, Command};
use super::host::Heard;
use super::metrics::{Tag, cut};
use super::payload;
use super::session::{Link, Session};
use crate::publish::transport::{Dial, Incoming};

impl<D: Dial> Session<D> {
    /// A message came in: the primary host's state, or a command.
    pub(super) fn hear(&mut self, message: &Incoming, link: &mut Link<D::Connection>) {
        self.tell(|state| state.heard += 1);
        if let Some(host) = self.host.as_mut().filter(|host| host.topic() == message.topic) {
            match host.hear(&message.payload) {
                Ok(Heard::Offline) => link.host_left = link.begun,
                Ok(Heard::Online) => {}
                Ok(Heard::Outdated) => tracing::warn!("an outdated STATE of the primary host"),
                Err(why) => tracing::warn!(why, "the primary host's STATE cannot be read"),
            }
            return;
        }
        let Some(addressee) = self.parts.node.addressee(&message.topic) else { return };
        if message.retain {
            // It is older than the connection, and may have been carried out long ago.
            tracing::warn!(topic = message.topic, "a kept Sparkplug command is not obeyed");
            return;
        }
        match (payload::written(&message.payload), addressee) {
            (Ok(written), None) => {
                if written.iter().any(payload::Written::asks_rebirth) {
                    self.parts.node.ask_rebirth();
                } else {
                    tracing::warn!("a Sparkplug command to the node that is not Rebirth");
                }
            }
            (Ok(written), Some(station)) => match command::read(station, &written) {
                Ok(commands) => commands.into_iter().for_each(|one| self.obey(station, one)),
                Err(why) => self.refuse(station, &why),
            },
            (Err(why), None) => tracing::warn!(why, "a Sparkplug command cannot be read"),
            (Err(why), Some(station)) => self.refuse(station, &why),
        }
    }

    fn obey(&mut self, station: usize, command: Command) {
        let name = self.parts.node.station_name(station).to_owned();
        let (what, echo) = match &command {
            Command::Trigger { trigger_id, .. } => (
                format!("{} {trigger_id}", Tag::Trigger.name()),
                Some((Tag::Trigger, Value::LongValue(*trigger_id))),
            ),
            Command::SelectRecipe { index } => (
                format!("{} {index}", Tag::RecipeSelect.name()),
                Some((Tag::RecipeSelect, Value::IntValue(*index))),
            ),
            Command::Reset => (Tag::Reset.name().to_owned(), None),
        };
        match self.parts.steering.commands.take(&name, command) {
            // What was accepted shows as the metric's value.
            Ok(()) => {
                let now = self.parts.clock.now();
                if let Some((tag, value)) = echo {
                    self.parts.node.set(station, tag, value, &now);
                }
            }
            Err(why) => self.refuse(station, &format!("{what}: {why}")),
        }
    }

    /// Sparkplug has no answer to a command: a refusal is a metric.
    fn refuse(&mut self, station: usize, why: &str) {
        let name = self.parts.node.station_name(station);
        tracing::warn!(station = name, why, "a Sparkplug command was refused");
        let now = self.parts.clock.now();
        let value = Value::StringValue(cut(why));
        self.parts.node.set(station, Tag::CommandRefused, value, &now);
    }
}
