//! Who can bind a port: every region of its binds, and what a policy does with each.

use crate::analysis::space::{BindSpace, Budget, EffectByRule, Row, SpaceError};
use portguard_common::Protocol;

/// Steps of cutting: about a second.
const BUDGET: usize = 500_000_000;

/// All regions of the binds of a port, for these protocols, under the first policy of a space.
///
/// # Errors
/// Where the rules of the policy overlap in too many ways.
pub fn who_can_bind<'a>(
    space: &BindSpace<'a>,
    port: u16,
    protocols: &[Protocol],
) -> Result<Vec<Row<EffectByRule<'a>>>, SpaceError> {
    let mut budget = Budget(BUDGET);
    let mut found = Vec::new();
    for group in space.port_groups() {
        let Some(group) = group.only(port, protocols) else {
            continue;
        };
        let Some(Some(rules)) = group.rules.first() else {
            continue;
        };
        for (_, regions) in space.split(space.whole(), 0, rules, &mut budget)? {
            for region in regions {
                let effect = space.effect(0, &group, &region);
                found.push((group.clone(), region, effect));
            }
        }
    }
    let rows = found.iter();
    Ok(space.rows(rows.map(|(group, region, effect)| (group, region, *effect))))
}
