//! `portguard explain --all`: who may bind a port.

use super::{objects, table::table};
use crate::exit::Exit;
use crate::stdout::{self, out_line};
use portguard_common::Protocol;
use portguard_policy::analysis::space::{
    BindSpace, Effect, EffectByRule, Row, Users, callers_text, ports_text,
};
use portguard_policy::analysis::who_can_bind::who_can_bind;
use portguard_policy::policy::Policy;
use serde_json::{Value, json};

pub(super) fn print(
    policy: &Policy,
    port: u16,
    protocol: Option<Protocol>,
    as_json: bool,
) -> anyhow::Result<Exit> {
    let protocols = protocol.map_or(Protocol::ALL.to_vec(), |protocol| vec![protocol]);
    let space = BindSpace::new(&[policy])?;
    let rows = who_can_bind(&space, port, &protocols)?;
    if as_json {
        print_objects(&space, &rows, port)?;
        return Ok(Exit::Success);
    }
    if rows.is_empty() {
        out_line!("not decided: port {port} is not in `protect`")?;
        return Ok(Exit::Success);
    }
    // Callers with two uids that are left to the kernel would only repeat those with one.
    let may = |row: &&Row<EffectByRule<'_>>| {
        row.value.effect == Effect::Allow
            || row.value.effect.errno().is_none() && matches!(row.users, Users::Same(_))
    };
    let (shown, others): (Vec<&Row<EffectByRule<'_>>>, Vec<_>) = rows.iter().partition(may);
    let lines: Vec<Vec<String>> = shown
        .iter()
        .flat_map(|row| cells(&space, row, policy))
        .collect();
    if !lines.is_empty() {
        stdout::text(&table(&HEADER, &lines))?;
    }
    if shown.iter().any(|row| row.value.effect.is_kernel()) {
        out_line!(
            "\nkernel: callers with CAP_NET_BIND_SERVICE, and everyone for ports from ip_unprivileged_port_start up"
        )?;
    }
    if others.iter().any(|row| row.value.effect.errno().is_some()) {
        out_line!("\neveryone else: deny")?;
    }
    Ok(Exit::Success)
}

const HEADER: [&str; 7] = [
    "VERDICT",
    "PROTOCOLS",
    "USERS",
    "GROUPS",
    "CGROUPS",
    "ADDRESSES",
    "BY",
];

fn cells(space: &BindSpace<'_>, row: &Row<EffectByRule<'_>>, policy: &Policy) -> Vec<Vec<String>> {
    let by = row
        .value
        .rule()
        .map_or("the default".to_owned(), |rule| format!("rule {rule}"));
    let each = ports_text(&row.ports).into_iter();
    each.map(|(_, protocols)| {
        vec![
            row.value.effect.to_string(),
            protocols,
            callers_text(&space.callers(&row.users), &policy.given),
            row.fields.groups.clone(),
            row.fields.cgroups.clone(),
            row.fields.addresses.clone(),
            by.clone(),
        ]
    })
    .collect()
}

/// One object per set of callers, those that are denied too; one that says so where nothing is decided.
fn print_objects(
    space: &BindSpace<'_>,
    rows: &[Row<EffectByRule<'_>>],
    port: u16,
) -> anyhow::Result<()> {
    if rows.is_empty() {
        let mut object = objects::effect(&EffectByRule::UNDECIDED);
        object["port"] = json!(port);
        object["binds"] = Value::Null;
        out_line!("{object}")?;
    }
    for row in rows {
        let mut object = objects::effect(&row.value);
        object["port"] = json!(port);
        object["binds"] = objects::binds(space, row);
        out_line!("{object}")?;
    }
    Ok(())
}
