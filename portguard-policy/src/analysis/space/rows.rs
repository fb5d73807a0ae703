//! Regions as the rows of a table: regions with equal values become one row.

use super::bind_space::BindSpace;
use super::display::Fields;
use super::port_group::PortGroup;
use super::region::Region;
use super::users::{Callers, Users};
use crate::policy::merged;
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// Ports by protocol, in the order of [`portguard_common::Protocol::ALL`].
type Ports = [Vec<RangeInclusive<u16>>; 4];

/// A row: which callers bind which ports, and the value for them.
#[derive(Clone, Debug)]
pub struct Row<T> {
    /// Ports by protocol.
    pub ports: Ports,
    /// Callers; [`BindSpace::callers`] has their uids.
    pub users: Users,
    /// The other fields.
    pub fields: Fields,
    /// What the table shows of these binds.
    pub value: T,
}

impl BindSpace<'_> {
    /// The rows of regions and their values, in order of their ports. Rows that differ in users only, or in ports
    /// only, are joined.
    #[must_use]
    pub fn rows<'r, T: Clone + Eq + Hash + Ord>(
        &self,
        regions: impl Iterator<Item = (&'r PortGroup, &'r Region<'r>, T)>,
    ) -> Vec<Row<T>> {
        let raw = regions.map(|(group, region, value)| Row {
            ports: group.ports.clone(),
            users: region.users.clone(),
            fields: Fields::of(region),
            value,
        });
        let rows = join(
            raw,
            |row| (Some(row.ports.clone()), mixed(&row.users)),
            add_users,
        );
        let rows = join(
            rows.into_iter(),
            |row| (None, Some(row.users.clone())),
            add_ports,
        );
        let mut rows = rows;
        for row in &mut rows {
            row.ports = row.ports.each_ref().map(|ports| merged(ports));
        }
        rows.sort_by_cached_key(|row| {
            let first =
                |ports: &Vec<RangeInclusive<u16>>| ports.first().map(|range| *range.start());
            let first = row.ports.iter().filter_map(first).min();
            let callers = self.users.first(&row.users);
            (first, callers, row.fields.clone(), row.value.clone())
        });
        rows
    }

    /// The callers of a row, by their uids.
    #[must_use]
    pub fn callers(&self, users: &Users) -> Callers {
        self.users.callers(users)
    }
}

/// Callers with two different uids, which are not joined.
fn mixed(users: &Users) -> Option<Users> {
    match users {
        Users::Same(_) => None,
        Users::Mixed(..) => Some(users.clone()),
    }
}

fn add_users<T>(row: &mut Row<T>, other: Row<T>) {
    if let (Users::Same(mine), Users::Same(theirs)) = (&mut row.users, &other.users) {
        Rc::make_mut(mine).union_with(theirs);
    }
}

fn add_ports<T>(row: &mut Row<T>, other: Row<T>) {
    for (mine, theirs) in row.ports.iter_mut().zip(other.ports) {
        mine.extend(theirs);
    }
}

/// Joins rows of equal key, fields and value.
fn join<T: Clone + Eq + Hash>(
    rows: impl Iterator<Item = Row<T>>,
    key: impl Fn(&Row<T>) -> (Option<Ports>, Option<Users>),
    add: impl Fn(&mut Row<T>, Row<T>),
) -> Vec<Row<T>> {
    let mut at = HashMap::new();
    let mut out: Vec<Row<T>> = Vec::new();
    for row in rows {
        let known = *at
            .entry((key(&row), row.fields.clone(), row.value.clone()))
            .or_insert(out.len());
        match out.get_mut(known) {
            Some(first) => add(first, row),
            None => out.push(row),
        }
    }
    out
}
