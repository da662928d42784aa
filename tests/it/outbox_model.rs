//! The outbox against a list in memory: whatever is done in whatever order, and however often the
//! program starts anew in between, both say the same.

use std::collections::VecDeque;
use std::path::Path;

use inspectd::inspection::Inspection;
use inspectd::store::{OutboxMessage, Store, TopicKind};
use proptest::prelude::*;
use tempfile::tempdir;

use crate::support::records::{inspection, open};

/// What can happen to an outbox.
#[derive(Clone, Debug)]
enum Step {
    /// An inspection with so many messages is committed.
    Commit { station: bool, messages: usize },
    /// A commit that fails: its result is in the record already.
    CommitAgain,
    /// The broker acknowledges the rows at these places of the list, in this order.
    Acknowledge(Vec<prop::sample::Index>),
    /// The row at this place can never be sent.
    Quarantine(prop::sample::Index),
    /// Old rows are tidied away.
    Prune { keep_rows: usize },
    /// The program ends and starts anew.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        5 => (any::<bool>(), 0..3usize)
            .prop_map(|(station, messages)| Step::Commit { station, messages }),
        1 => Just(Step::CommitAgain),
        3 => prop::collection::vec(index(), 1..4).prop_map(Step::Acknowledge),
        1 => index().prop_map(Step::Quarantine),
        1 => (0..6usize).prop_map(|keep_rows| Step::Prune { keep_rows }),
        2 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Unsent,
    Sent,
    Quarantined,
}

#[derive(Clone, Debug)]
struct ModelRow {
    id: i64,
    station: &'static str,
    payload: Vec<u8>,
    state: State,
}

/// The list, and what it must remember beside.
#[derive(Default)]
struct Model {
    rows: VecDeque<ModelRow>,
    next_id: i64,
    committed: Option<Inspection>,
    jobs: u64,
}

impl Model {
    fn commit(&mut self, store: &Store, left: bool, messages: usize) {
        self.jobs += 1;
        let station = if left { "left" } else { "right" };
        let look = inspection(station, self.jobs);
        let payloads: Vec<Vec<u8>> =
            (0..messages).map(|at| format!("{} {at}\0", self.jobs).into_bytes()).collect();
        let sequence = store.commit(&look, &outgoing(&payloads)).expect("a commit");
        assert_eq!(sequence as u64, self.jobs);
        self.committed = Some(look);
        for payload in payloads {
            self.next_id += 1;
            self.rows.push_back(ModelRow {
                id: self.next_id,
                station,
                payload,
                state: State::Unsent,
            });
        }
    }

    fn commit_again(&self, store: &Store) {
        if let Some(look) = &self.committed {
            store.commit(look, &outgoing(&[b"never".to_vec()])).expect_err("committed before");
        }
    }

    /// A row that is not unsent any more stays as it is: an acknowledgement may come twice.
    fn settle(&mut self, id: i64, state: State) {
        for row in self.rows.iter_mut().filter(|row| row.id == id && row.state == State::Unsent) {
            row.state = state;
        }
    }

    fn prune(&mut self, keep_rows: usize) {
        let newest_row = self.rows.back().map_or(0, |row| row.id);
        let upto = newest_row.saturating_sub(i64::try_from(keep_rows).unwrap_or(i64::MAX));
        let newest = |station: &str| {
            self.of(State::Sent).filter(|row| row.station == station).map(|row| row.id).next_back()
        };
        let kept = [newest("left"), newest("right")];
        let gone: Vec<i64> = self
            .of(State::Sent)
            .map(|row| row.id)
            .filter(|id| *id <= upto && !kept.contains(&Some(*id)))
            .collect();
        self.rows.retain(|row| !gone.contains(&row.id));
    }

    fn of(&self, state: State) -> impl DoubleEndedIterator<Item = &ModelRow> {
        self.rows.iter().filter(move |row| row.state == state)
    }

    fn id_at(&self, index: &prop::sample::Index) -> Option<i64> {
        (!self.rows.is_empty()).then(|| self.rows[index.index(self.rows.len())].id)
    }

    fn check(&self, store: &Store) {
        let state = store.outbox_state().expect("counted");
        let unsent: Vec<&ModelRow> = self.of(State::Unsent).collect();
        assert_eq!(state.unsent, unsent.len() as u64);
        assert_eq!(state.quarantined, self.of(State::Quarantined).count() as u64);
        assert_eq!(state.oldest_age.is_some(), !unsent.is_empty());
        let plain = |row: &ModelRow| (row.id, row.payload.clone());
        let read = |limit: usize, after: i64, upto: i64, but: &[&str]| -> Vec<(i64, Vec<u8>)> {
            let but: Vec<String> = but.iter().map(|&name| name.to_owned()).collect();
            let rows = store.unsent(limit, after, upto, &but).expect("read");
            rows.into_iter().map(|row| (row.id, row.payload)).collect()
        };
        let all: Vec<_> = unsent.iter().map(|row| plain(row)).collect();
        assert_eq!(read(usize::MAX, 0, i64::MAX, &[]), all);
        let after = unsent.first().map_or(0, |row| row.id);
        let window: Vec<_> = all.iter().filter(|row| row.0 > after).take(2).cloned().collect();
        assert_eq!(read(2, after, i64::MAX, &[]), window);
        // Wherever the line is drawn between live and backlog, each row is on one side of it.
        let middle = all.get(all.len() / 2).map_or(0, |row| row.0);
        let (backlog, live) = (read(99, 0, middle, &[]), read(99, middle, i64::MAX, &[]));
        assert_eq!([backlog, live].concat(), all);
        let left: Vec<_> =
            unsent.iter().filter(|row| row.station == "left").map(|row| plain(row)).collect();
        assert_eq!(read(99, 0, i64::MAX, &["right", "none"]), left);
        let newest = store.newest_message().expect("read");
        assert_eq!(newest, self.next_id, "the newest row is never tidied away");
        for station in ["left", "right"] {
            let newest = self.of(State::Sent).rfind(|row| row.station == station);
            let found = store.last_sent(station).expect("read");
            assert_eq!(found.map(|row| (row.id, row.payload)), newest.map(plain));
        }
    }
}

fn outgoing(payloads: &[Vec<u8>]) -> Vec<OutboxMessage> {
    let message =
        |payload: &Vec<u8>| OutboxMessage { kind: TopicKind::Result, payload: payload.clone() };
    payloads.iter().map(message).collect()
}

fn run(dir: &Path, steps: Vec<Step>) {
    let mut store = open(dir);
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Commit { station, messages } => model.commit(&store, station, messages),
            Step::CommitAgain => model.commit_again(&store),
            Step::Acknowledge(places) => {
                let ids: Vec<i64> = places.iter().filter_map(|at| model.id_at(at)).collect();
                store.mark_sent(&ids).expect("marked");
                ids.into_iter().for_each(|id| model.settle(id, State::Sent));
            }
            Step::Quarantine(at) => {
                if let Some(id) = model.id_at(&at) {
                    store.quarantine(id, "can never be sent").expect("put aside");
                    model.settle(id, State::Quarantined);
                }
            }
            Step::Prune { keep_rows } => {
                store.prune_sent(keep_rows).expect("tidied");
                model.prune(keep_rows);
            }
            Step::Reopen => {
                drop(store);
                store = open(dir);
            }
        }
        model.check(&store);
    }
}

proptest! {
    // Each case writes to a real disk, some thirty commits of it.
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_outbox_is_a_list_that_survives(steps in steps()) {
        let dir = tempdir().expect("a folder");
        run(dir.path(), steps);
    }
}
