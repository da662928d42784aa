//! The stations that run: shared by all who look one up, and another after some reloads.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::desk::Desk;
use super::line::Changer;
use super::outputs::OutputsOf;
use crate::footage::Clips;
use crate::telemetry;

/// One station that runs.
pub struct Member {
    /// Its desk.
    pub desk: Arc<Desk>,
    /// Brings changes to its line.
    pub changer: Changer,
    /// Who keeps its last seconds, if anybody does.
    pub clips: Option<Arc<Clips>>,
    /// Its hard outputs, if it has any, until it leaves.
    outputs: Mutex<Option<OutputsOf>>,
}

/// All that run, in the order in which they came.
pub struct Roster(RwLock<Vec<Arc<Member>>>);

impl From<Vec<Arc<Member>>> for Roster {
    fn from(members: Vec<Arc<Member>>) -> Roster {
        Roster(RwLock::new(members))
    }
}

impl Roster {
    /// Those that run now.
    pub fn all(&self) -> Vec<Arc<Member>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Their desks.
    pub fn desks(&self) -> Vec<Arc<Desk>> {
        self.all().iter().map(|one| Arc::clone(&one.desk)).collect()
    }

    /// The station of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Member>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|one| one.desk.name() == name).cloned()
    }

    /// One more station. There must be none of its name.
    pub fn add(&self, member: Arc<Member>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(member);
    }

    /// The station `name` is none any more, once all of it has been recorded.
    pub fn remove(&self, name: &str) {
        let Some(gone) = self.find(name) else { return };
        gone.end_clips();
        // Whoever sees that it has left finds its lines and registers free.
        drop(gone.outputs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| !Arc::ptr_eq(one, &gone));
    }
}

impl Member {
    /// A station with this desk, whose line `changer` leads to.
    pub fn new(
        desk: Arc<Desk>,
        changer: Changer,
        clips: Option<Arc<Clips>>,
        outputs: Option<OutputsOf>,
    ) -> Member {
        Member { desk, changer, clips, outputs: Mutex::new(outputs) }
    }

    /// Writes the clips that are begun, and ends.
    pub fn end_clips(&self) {
        let Some(clips) = &self.clips else { return };
        clips.finish();
        telemetry::clips_stopped(self.desk.name(), &clips.counts());
    }
}
