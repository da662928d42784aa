//! The stations that run: shared by all who look one up, and another after some reloads.

use std::sync::{Arc, PoisonError, RwLock};

use super::desk::Desk;
use super::line::Changer;
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
}

/// All that run, in the order in which they came.
#[derive(Default)]
pub struct Roster(RwLock<Vec<Arc<Member>>>);

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
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|one| one.desk.name() == name);
        let gone = at.map(|at| all.remove(at));
        drop(all);
        if let Some(gone) = gone {
            gone.end_clips();
        }
    }
}

impl Member {
    /// Writes the clips that are begun, and ends.
    pub fn end_clips(&self) {
        let Some(clips) = &self.clips else { return };
        clips.finish();
        telemetry::clips_stopped(self.desk.name(), &clips.counts());
    }
}
