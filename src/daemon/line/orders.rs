//! Parts that the line's controller asks for.

use super::Line;
use crate::clock::Stamp;
use crate::daemon::desk::{Order, ReplyTo};
use crate::daemon::recorder::Recorder;
use crate::footage;
use crate::plc::CommandName;
use crate::trigger::Shot;
use crate::verdict::Reason;

impl Line {
    /// A part is asked for again, as it was when this was recorded.
    pub(super) fn order_again(&mut self, order: &footage::Order, recorder: &Recorder) {
        let (name, payload) = (CommandName::Trigger.as_str(), order.trigger.to_string());
        let nobody = ReplyTo::default();
        self.desk.take(name, payload.as_bytes(), false, &self.clock.now(), &nobody);
        self.take_orders_asked(Some(order.asked), recorder);
    }

    /// Takes what the controller asked for, and gives up what has waited too long for its picture.
    pub(super) fn take_orders(&mut self, recorder: &Recorder) {
        self.take_orders_asked(None, recorder);
    }

    /// As [`Line::take_orders`]; `asked`: when they were asked for, in the time of the footage.
    fn take_orders_asked(&mut self, asked: Option<Stamp>, recorder: &Recorder) {
        let Some(orders) = &mut self.orders else { return };
        let now = self.view.now(&self.clock);
        let mut served = Vec::new();
        for order in self.desk.orders() {
            if let Some(film) = &self.film {
                film.order(order.recorded());
            }
            served.extend(orders.ask(asked.unwrap_or(order.asked), order));
        }
        let expired = orders.expire(&now);
        for (order, shot) in served.into_iter().chain(expired.served) {
            self.serve(order, shot, recorder);
        }
        for order in expired.lost {
            let text = "No picture was taken within the time that the trigger allows.";
            self.give_up(order, Reason::new("frame_lost", text), recorder);
        }
    }

    /// No picture will be taken any more: whatever was accepted is recorded, and nothing more is.
    pub(super) fn give_up_orders(&mut self, recorder: &Recorder) {
        self.desk.change(|contract, now| contract.halt(now));
        let Some(orders) = &mut self.orders else { return };
        let left: Vec<Order> = orders.give_up().into_iter().chain(self.desk.orders()).collect();
        for order in left {
            let text = "The station stopped before it had taken a picture.";
            self.give_up(order, Reason::new("stopped", text), recorder);
        }
    }

    pub(super) fn serve(&mut self, order: Order, shot: Shot, recorder: &Recorder) {
        if !self.stop.may_trigger() {
            let text = "As many parts as were asked for had been triggered.";
            return self.give_up(order, Reason::new("stopped", text), recorder);
        }
        self.desk.change(|contract, now| contract.acquired(&order.job, now));
        let (mut part, hand) = order.into_part();
        part.show(shot.frame, shot.more);
        self.send(part, Some(hand), recorder);
    }

    fn give_up(&mut self, order: Order, reason: Reason, recorder: &Recorder) {
        let (mut part, hand) = order.into_part();
        part.missed = Some(reason);
        self.miss(&part, Some(&hand), recorder);
    }
}
