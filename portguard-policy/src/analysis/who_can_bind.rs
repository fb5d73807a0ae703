//! Who may bind a port: every region of its binds, and what a policy makes of each.

use crate::analysis::diff::EffectByRule;
use crate::analysis::space::{BindSpace, Budget, Row, SpaceError};
use portguard_common::Protocol;

/// Steps of cutting: about a second.
const BUDGET: usize = 500_000_000;

/// All regions of the binds of a port, for these protocols, by the first policy of a space.
///
/// # Errors
/// Where the rules of its policy overlap in too many ways.
pub fn who_can_bind(
    space: &BindSpace<'_>,
    port: u16,
    protocols: &[Protocol],
) -> Result<Vec<Row<EffectByRule>>, SpaceError> {
    let mut budget = Budget(BUDGET);
    let mut found = Vec::new();
    for mut group in space.port_groups() {
        let here: Vec<Protocol> = (protocols.iter().copied())
            .filter(|protocol| group.has(port, *protocol))
            .collect();
        let Some(Some(rules)) = group.rules.first().cloned() else {
            continue;
        };
        if here.is_empty() {
            continue;
        }
        for protocol in Protocol::ALL {
            let named = here.contains(&protocol);
            group.ports[protocol as usize] = if named { vec![port..=port] } else { Vec::new() };
        }
        for (_, regions) in space.split(space.whole(), 0, &rules, &mut budget)? {
            for region in regions {
                let done = EffectByRule::from(space.outcome(0, &group, &region));
                found.push((group.clone(), region, done));
            }
        }
    }
    let rows = found
        .iter()
        .map(|(group, region, done)| (group, region, done.clone()));
    Ok(space.rows(rows))
}
