//! Regions as the rows of a table: what is said alike of several becomes one row.

use super::users::Users;
use super::words::Fields;
use super::{PortGroup, Region};
use crate::policy::merged;
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// A row: who binds what, and what is said of it.
#[derive(Clone, Debug)]
pub struct Row<T> {
    /// Ports by protocol.
    pub ports: [Vec<RangeInclusive<u16>>; 4],
    /// Callers.
    pub users: Users,
    /// The other fields.
    pub fields: Fields,
    /// What is said.
    pub said: T,
}

impl<T> Row<T> {
    /// The row of a region.
    #[must_use]
    pub fn new(group: &PortGroup, region: &Region<'_>, said: T) -> Self {
        Self {
            ports: group.ports.clone(),
            users: region.users.clone(),
            fields: Fields::of(region),
            said,
        }
    }
}

/// The rows, those that differ in users alone and those that differ in ports alone joined; in order of
/// their ports.
#[must_use]
pub fn joined<T: Clone + Eq + Hash + Ord>(rows: Vec<Row<T>>) -> Vec<Row<T>> {
    let by_users = join(
        rows,
        |row| match row.users {
            Users::Same(_) => (Some(row.ports.clone()), None),
            Users::Mixed(..) => (Some(row.ports.clone()), Some(row.users.clone())),
        },
        |row, other| {
            if let (Users::Same(mine), Users::Same(theirs)) = (&row.users, &other.users) {
                row.users = Users::Same(Rc::new([mine.as_slice(), theirs].concat()));
            }
        },
    );
    let by_users = by_users.into_iter().map(|mut row| {
        if let Users::Same(uids) = &row.users {
            row.users = Users::Same(Rc::new(merged(uids)));
        }
        row
    });
    let mut rows = join(
        by_users.collect(),
        |row| (None, Some(row.users.clone())),
        |row, other| {
            for (mine, theirs) in row.ports.iter_mut().zip(other.ports) {
                mine.extend(theirs);
            }
        },
    );
    for row in &mut rows {
        for ports in &mut row.ports {
            *ports = merged(ports);
        }
    }
    rows.sort_by_cached_key(|row| {
        let first = |ports: &Vec<RangeInclusive<u16>>| ports.first().map(|range| *range.start());
        let first = row.ports.iter().filter_map(first).min();
        let users = match &row.users {
            Users::Same(uids) => (0, uids.first().map(|range| *range.start())),
            Users::Mixed(real, _) => (1, real.first().map(|range| *range.start())),
        };
        (first, users, row.fields.clone(), row.said.clone())
    });
    rows
}

type PortsKey = Option<[Vec<RangeInclusive<u16>>; 4]>;

/// Joins the rows that have a key, their other fields and what is said in common.
fn join<T: Clone + Eq + Hash>(
    rows: Vec<Row<T>>,
    key: impl Fn(&Row<T>) -> (PortsKey, Option<Users>),
    add: impl Fn(&mut Row<T>, Row<T>),
) -> Vec<Row<T>> {
    let mut at = HashMap::new();
    let mut out: Vec<Row<T>> = Vec::new();
    for row in rows {
        let known = *at
            .entry((key(&row), row.fields.clone(), row.said.clone()))
            .or_insert(out.len());
        match out.get_mut(known) {
            Some(first) => add(first, row),
            None => out.push(row),
        }
    }
    out
}
