//! Counters of `monitor --top`: decisions by caller and port, by refusal and by rule.

use crate::events::DecisionEvent;
use portguard_common::{Protocol, Verdict};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

/// Rows kept per table. Beyond that, the smaller half is merged into "other".
pub(super) const ROWS: usize = 1_024;

/// Seconds of history.
pub(super) const HISTORY: usize = 300;

/// Weight of the last second in a row's rate.
const WEIGHT: f64 = 0.3;

/// Rates below this are zero.
const REST: f64 = 0.05;

/// Caller, port and verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bind {
    verdict: Verdict,
    protocol: Protocol,
    port: u16,
    uid: u32,
    program: String,
}

/// Equal decisions.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) count: u64,
    /// Moving average per second.
    pub(super) rate: f64,
    /// Second of the latest decision.
    pub(super) last: u64,
    pub(super) latest: Arc<DecisionEvent>,
    /// Since the last tick.
    new_hits: u64,
}

/// Rows by a key, not more than [`ROWS`].
#[derive(Clone)]
pub(super) struct Rows<K> {
    rows: HashMap<K, Row>,
    other: u64,
}

impl<K: Eq + Hash> Rows<K> {
    fn new() -> Self {
        Self {
            rows: HashMap::new(),
            other: 0,
        }
    }

    fn add(&mut self, key: K, decided: &Arc<DecisionEvent>, now: u64) {
        let count = decided.count;
        let row = self.rows.entry(key).or_insert_with(|| Row {
            count: 0,
            rate: 0.0,
            last: now,
            latest: Arc::clone(decided),
            new_hits: 0,
        });
        row.count += count;
        row.new_hits += count;
        row.last = now;
        row.latest = Arc::clone(decided);
        if self.rows.len() > ROWS {
            self.fold();
        }
    }

    /// Makes room by dropping half of the rows at once, so that a flood of new keys is cheap.
    fn fold(&mut self) {
        let size = |row: &Row| (row.count, row.last);
        let mut sizes: Vec<_> = self.rows.values().map(size).collect();
        sizes.sort_unstable();
        let Some(least) = sizes.get(sizes.len() / 2).copied() else {
            return;
        };
        let larger = sizes.iter().filter(|size| **size > least).count();
        let mut room = (ROWS / 2).saturating_sub(larger);
        let other = &mut self.other;
        self.rows.retain(|_, row| {
            let equal = size(row) == least && room > 0;
            room -= usize::from(equal);
            let stays = equal || size(row) > least;
            *other += if stays { 0 } else { row.count };
            stays
        });
    }

    fn tick(&mut self) {
        for row in self.rows.values_mut() {
            row.rate += (row.new_hits as f64 - row.rate) * WEIGHT;
            if row.rate < REST {
                row.rate = 0.0;
            }
            row.new_hits = 0;
        }
    }

    /// Decisions whose rows were dropped.
    pub(super) const fn other(&self) -> u64 {
        self.other
    }

    pub(super) fn get(&self, key: &K) -> Option<&Row> {
        self.rows.get(key)
    }

    /// All rows in this order; ties are ordered by key.
    pub(super) fn sorted(&self, order: Order) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.values().collect();
        rows.sort_by(|a, b| order.compare(a, b));
        rows
    }
}

/// Sort order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Most decisions first.
    #[default]
    Count,
    /// Highest rate first.
    Rate,
    /// Latest first.
    Last,
    /// Lowest port first.
    Port,
}

impl Order {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Rate => "rate",
            Self::Last => "last",
            Self::Port => "port",
        }
    }

    pub(super) const fn next(self) -> Self {
        match self {
            Self::Count => Self::Rate,
            Self::Rate => Self::Last,
            Self::Last => Self::Port,
            Self::Port => Self::Count,
        }
    }

    pub(super) fn compare(self, a: &Row, b: &Row) -> std::cmp::Ordering {
        let port = |row: &Row| (row.latest.port, row.latest.uid);
        let first = match self {
            Self::Count => b.count.cmp(&a.count),
            Self::Rate => b.rate.total_cmp(&a.rate),
            Self::Last => b.last.cmp(&a.last),
            Self::Port => port(a).cmp(&port(b)),
        };
        // Rows must not jump between two drawings.
        first
            .then_with(|| b.count.cmp(&a.count))
            .then_with(|| port(a).cmp(&port(b)))
            .then_with(|| program(&a.latest).cmp(program(&b.latest)))
            .then_with(|| a.latest.verdict.as_str().cmp(b.latest.verdict.as_str()))
    }
}

/// A second of the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Second {
    pub(super) all: u64,
    pub(super) denied: u64,
}

/// All counters.
#[derive(Clone)]
pub(super) struct Tally {
    pub(super) binds: Rows<Bind>,
    pub(super) refused: Rows<Bind>,
    pub(super) rules: Rows<Option<String>>,
    /// Seconds since the start.
    pub(super) now: u64,
    pub(super) allow: u64,
    pub(super) deny: u64,
    pub(super) kernel: u64,
    /// Decisions that the daemon dropped because this reader was too slow.
    pub(super) dropped: u64,
    /// One entry per second; the last one is still running.
    pub(super) history: VecDeque<Second>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            binds: Rows::new(),
            refused: Rows::new(),
            rules: Rows::new(),
            now: 0,
            allow: 0,
            deny: 0,
            kernel: 0,
            dropped: 0,
            history: VecDeque::from([Second::default()]),
        }
    }

    pub(super) fn add(&mut self, decided: DecisionEvent) {
        let decided = Arc::new(decided);
        let bind = Bind {
            verdict: decided.verdict,
            protocol: decided.protocol,
            port: decided.port,
            uid: decided.uid,
            program: program(&decided).to_owned(),
        };
        let denied = decided.verdict == Verdict::Deny;
        match decided.verdict {
            Verdict::Allow => self.allow += decided.count,
            Verdict::Deny => self.deny += decided.count,
            Verdict::Kernel => self.kernel += decided.count,
        }
        if let Some(second) = self.history.back_mut() {
            second.all += decided.count;
            second.denied += if denied { decided.count } else { 0 };
        }
        if denied {
            self.refused.add(bind.clone(), &decided, self.now);
        }
        self.binds.add(bind, &decided, self.now);
        self.rules.add(decided.rule.clone(), &decided, self.now);
    }

    /// Advances by one second.
    pub(super) fn tick(&mut self) {
        self.now += 1;
        self.binds.tick();
        self.refused.tick();
        self.rules.tick();
        if self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Second::default());
    }

    pub(super) const fn all(&self) -> u64 {
        self.allow + self.deny + self.kernel
    }

    /// Decisions in the last complete second.
    pub(super) fn rate(&self) -> u64 {
        let whole = self.history.iter().rev().nth(1);
        whole.map_or(0, |second| second.all)
    }

    /// Most decisions in one second of the history.
    pub(super) fn peak(&self) -> u64 {
        let seconds = self.history.iter().map(|second| second.all);
        seconds.max().unwrap_or_default()
    }
}

/// Program path, or the thread name if the process was gone; `*` where there were several.
pub(super) fn program(decided: &DecisionEvent) -> &str {
    let name = decided.exe.as_deref().or(decided.comm.as_deref());
    name.unwrap_or("*")
}

#[cfg(test)]
pub(in crate::cli::top) mod tests {
    use super::*;
    use portguard_common::Errno;

    pub(in crate::cli::top) fn decided(verdict: Verdict, port: u16, uid: u32) -> DecisionEvent {
        DecisionEvent {
            verdict,
            granted: verdict == Verdict::Allow,
            rule: (verdict != Verdict::Kernel).then(|| format!("{verdict}-rule")),
            port,
            uid,
            user: (uid == 33).then(|| "www-data".into()),
            euid: uid,
            gid: uid,
            egid: uid,
            userns_owner: None,
            comm: Some("nginx".into()),
            exe: Some("/usr/sbin/nginx".into()),
            cgroup: Some("/system.slice/nginx.service".into()),
            errno: (verdict == Verdict::Deny).then_some(Errno::Acces),
            ..serde_json::from_str(include_str!("../../../tests/event.json")).unwrap()
        }
    }

    #[test]
    fn tally_adds_equal_and_aggregated_binds() {
        let mut tally = Tally::new();
        tally.add(decided(Verdict::Allow, 80, 33));
        tally.add(DecisionEvent {
            count: 5,
            ..decided(Verdict::Allow, 80, 33)
        });
        tally.add(decided(Verdict::Deny, 80, 1000));
        let counts: Vec<u64> = tally
            .binds
            .sorted(Order::Count)
            .iter()
            .map(|row| row.count)
            .collect();
        assert_eq!(counts, [6, 1]);
        assert_eq!(tally.refused.sorted(Order::Count).len(), 1);
        assert_eq!((tally.all(), tally.allow, tally.deny), (7, 6, 1));
        let rule = tally.rules.get(&Some("allow-rule".into()));
        assert_eq!(rule.map(|row| row.count), Some(6));
    }

    #[test]
    fn tally_sorts_by_each_order() {
        let mut tally = Tally::new();
        for _ in 0..3 {
            tally.add(decided(Verdict::Allow, 80, 33));
        }
        tally.tick();
        tally.add(decided(Verdict::Deny, 25, 1000));
        tally.add(decided(Verdict::Deny, 25, 1000));
        tally.tick();
        tally.add(decided(Verdict::Kernel, 443, 0));
        let first = |order| tally.binds.sorted(order)[0].latest.port;
        assert_eq!(first(Order::Count), 80);
        assert_eq!(first(Order::Port), 25);
        assert_eq!(first(Order::Last), 443);
        let rates: Vec<u16> = tally
            .binds
            .sorted(Order::Rate)
            .iter()
            .map(|row| row.latest.port)
            .collect();
        assert_eq!(rates, [80, 25, 443]);
    }

    #[test]
    fn tally_rates_decay_to_zero() {
        let mut tally = Tally::new();
        for _ in 0..30 {
            for _ in 0..10 {
                tally.add(decided(Verdict::Allow, 80, 33));
            }
            tally.tick();
        }
        assert_eq!(tally.rate(), 10);
        let rate = |tally: &Tally| tally.binds.sorted(Order::Rate)[0].rate;
        assert!((rate(&tally) - 10.0).abs() < 0.1, "{}", rate(&tally));
        for _ in 0..30 {
            tally.tick();
        }
        assert_eq!(rate(&tally).to_bits(), 0);
        assert_eq!(tally.rate(), 0);
    }

    #[test]
    fn tally_is_bounded_and_keeps_heavy_keys() {
        let mut tally = Tally::new();
        for _ in 0..100 {
            tally.add(decided(Verdict::Deny, 80, 33));
        }
        for uid in 0..10 * ROWS as u32 {
            tally.add(decided(Verdict::Deny, 25, 100_000 + uid));
        }
        let rows = tally.binds.sorted(Order::Count);
        assert!(rows.len() <= ROWS, "{}", rows.len());
        assert_eq!(rows[0].count, 100);
        let shown: u64 = rows.iter().map(|row| row.count).sum();
        assert_eq!(shown + tally.binds.other(), tally.all());
    }

    #[test]
    fn tally_history_is_bounded() {
        let mut tally = Tally::new();
        for _ in 0..2 * HISTORY {
            tally.tick();
        }
        assert_eq!(tally.history.len(), HISTORY);
    }
}
