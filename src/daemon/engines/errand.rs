//! Questions of an engine's threads to the device's own model, which another thread owns.

use std::time::Duration;

use crate::daemon::desk::InHand;
use crate::inspector::{Inspector, LocalAsker, Model, RemoteQuestion, Reply};

/// Questions that may wait for the device's own model beside its parts.
const ERRANDS_MAX: usize = 16;

/// So long an answer that was cut short by its deadline may be on its way.
const GRACE: Duration = Duration::from_millis(100);

/// A question of an engine's thread to the device's own model.
pub struct Errand {
    question: RemoteQuestion,
    answer: flume::Sender<Reply>,
}

/// Where questions come back from engines elsewhere.
pub type Errands = flume::Receiver<Errand>;

/// What the thread that owns the model does next.
pub enum Work {
    /// Looks at a part.
    Part(InHand),
    /// Answers a question for another thread.
    Errand(Errand),
}

/// The counter at which errands are handed in.
pub struct Counter {
    sender: flume::Sender<Errand>,
}

impl Counter {
    /// A counter, and where the errands come out: none any more when it is gone.
    pub fn open() -> (Counter, Errands) {
        let (sender, errands) = flume::bounded(ERRANDS_MAX);
        (Counter { sender }, errands)
    }
}

impl LocalAsker for Counter {
    fn ask(&self, question: RemoteQuestion) -> Option<Reply> {
        let (answer, answers) = flume::bounded(1);
        let deadline = question.deadline + GRACE;
        // A model with so much to do would answer too late.
        self.sender.try_send(Errand { question, answer }).ok()?;
        answers.recv_deadline(deadline).ok()
    }
}

impl Errand {
    /// Puts the question to the device's own model.
    pub fn run<M: Model>(self, inspector: &mut Inspector<M>) {
        let Errand { question, answer } = self;
        if std::time::Instant::now() >= question.deadline {
            return; // whoever asked has given up
        }
        let asked = question.station.questions.iter().find(|one| one.name == question.question);
        let Some(asked) = asked else { return };
        let crops: Vec<_> = question.crops.iter().collect();
        let reply = inspector.ask_model(&question.station, asked, &crops, question.deadline);
        // Whoever asked may have given up meanwhile.
        let _ = answer.send(reply);
    }
}

/// The next thing for the thread that owns the model; `None` when neither parts nor errands come any more.
pub fn next_work(
    parts: &flume::Receiver<InHand>,
    errands: &flume::Receiver<Errand>,
) -> Option<Work> {
    enum Got {
        Part(Result<InHand, flume::RecvError>),
        Errand(Result<Errand, flume::RecvError>),
    }
    let got = flume::Selector::new().recv(parts, Got::Part).recv(errands, Got::Errand).wait();
    match got {
        Got::Part(Ok(part)) => Some(Work::Part(part)),
        Got::Errand(Ok(errand)) => Some(Work::Errand(errand)),
        Got::Part(Err(_)) => errands.recv().ok().map(Work::Errand),
        Got::Errand(Err(_)) => parts.recv().ok().map(Work::Part),
    }
}
