//! `portguard doctor`: can this host enforce a policy?

use crate::exit::Exit;
use crate::kernel::{
    BindProgram, Condition, Enforcer, Environment, Hook, HookChoice, Severity, bind_programs,
    object, object_condition, pins_condition,
};
use crate::sandbox;
use crate::stdout::out_line;
use portguard_policy::escape::escape;
use serde::Serialize;
use std::ops::RangeInclusive;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_long_help = "Examples:\n  \
    portguard doctor\n  \
    portguard doctor --policy /etc/portguard/policies --json")]
pub(super) struct Args {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(super) json: bool,
    /// Policy file or directory whose `protect` and `units` are checked [default: ports 1-1023]
    #[arg(long, value_name = "PATH")]
    policy: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Row<'a> {
    condition: &'a str,
    state: &'a str,
    found: &'a str,
    fix: Option<&'a str>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let environment = Environment::probe();
    let mut conditions = vec![object_condition(&object())];
    conditions.extend_from_slice(environment.conditions());
    let policy = match &args.policy[..] {
        [] => None,
        paths => Some(super::load(paths)?),
    };
    conditions.extend(policy.as_ref().map(crate::run::units_condition));
    conditions.push(local_ports(&policy.unwrap_or_default().protect));
    conditions.push(pins_condition());
    conditions.extend(other_programs(&environment));
    conditions.push(sandbox(&sandbox::missing()));
    let missing = conditions.iter().any(Condition::is_missing);
    conditions.push(if missing {
        not_tried()
    } else {
        trial(&environment)
    });
    let works = !conditions.iter().any(Condition::is_missing);
    let rows: Vec<Row<'_>> = conditions.iter().map(row).collect();
    if args.json {
        let report = serde_json::json!({ "works": works, "conditions": rows });
        out_line!("{report}")?;
    } else {
        for row in &rows {
            out_line!("{:<8} {:<38} {}", row.state, row.condition, row.found)?;
            if let Some(fix) = row.fix {
                out_line!("{:<8} {:<38} fix: {fix}", "", "")?;
            }
        }
    }
    Ok(if works {
        Exit::Success
    } else {
        Exit::Environment
    })
}

fn row(condition: &Condition) -> Row<'_> {
    Row {
        condition: condition.name,
        state: match condition.severity {
            Severity::Good => "ok",
            Severity::Warning => "warning",
            Severity::Missing => "missing",
        },
        found: &condition.found,
        fix: condition.fix.as_deref(),
    }
}

/// Whether sockets get protected ports without a bind.
fn local_ports(protect: &[RangeInclusive<u16>]) -> Condition {
    let name = "protected ports are not assigned automatically";
    let Some(ports) = crate::kernel::local_ports() else {
        return Condition {
            name,
            severity: Severity::Warning,
            found: "net.ipv4.ip_local_port_range cannot be read".into(),
            fix: None,
        };
    };
    match ports.exposed(protect) {
        None => Condition {
            name,
            severity: Severity::Good,
            found: "none in net.ipv4.ip_local_port_range, or all are reserved".into(),
            fix: None,
        },
        Some(exposed) => Condition {
            name,
            severity: Severity::Warning,
            found: exposed.to_string(),
            fix: Some(exposed.fix()),
        },
    }
}

/// Whether `run` can give up all that it would give up; it runs without.
fn sandbox(missing: &[String]) -> Condition {
    let name = "run can confine itself";
    if missing.is_empty() {
        return Condition {
            name,
            severity: Severity::Good,
            found: "seccomp and Landlock".to_owned(),
            fix: None,
        };
    }
    Condition {
        name,
        severity: Severity::Warning,
        found: missing.join("; "),
        fix: Some("none is needed to enforce: the daemon runs with less confinement".to_owned()),
    }
}

/// Bind programs that are there before portguard's own; nothing where there is no tree to look at.
fn other_programs(environment: &Environment) -> Option<Condition> {
    let name = "no other bind programs";
    if environment.cgroup_root.as_os_str().is_empty() {
        return None;
    }
    let (severity, found, fix) = match bind_programs(&environment.cgroup_root) {
        Ok(programs) if programs.is_empty() => {
            (Severity::Good, "none on the cgroup tree".to_owned(), None)
        }
        Ok(programs) => (
            Severity::Warning,
            programs.iter().map(describe).collect::<Vec<_>>().join(", "),
            Some("a program that refuses a bind overrides a grant; a bind that it grants is refused only if the policy denies it".to_owned()),
        ),
        Err(error) => (
            Severity::Warning,
            format!("cannot list them: {error}"),
            None,
        ),
    };
    Some(Condition {
        name,
        severity,
        found,
        fix,
    })
}

fn describe(program: &BindProgram) -> String {
    let BindProgram {
        cgroup,
        hook,
        id,
        name,
    } = program;
    let (name, hook) = (escape(name.as_bytes()), hook.as_str());
    let cgroup = escape(cgroup.as_bytes());
    format!("{name} (id {id}, {hook}) on {cgroup}")
}

/// The condition that [`trial`] checks.
const TRIAL: &str = "the programs load and run";

fn not_tried() -> Condition {
    Condition {
        name: TRIAL,
        severity: Severity::Missing,
        found: "not tried".into(),
        fix: Some("fix the items above first".into()),
    }
}

/// Loads and attaches the programs for a moment, with no policy: they let everything pass.
fn trial(environment: &Environment) -> Condition {
    let name = TRIAL;
    match Enforcer::start(environment, HookChoice::Auto, None) {
        Ok(enforcer) => {
            let grants = if enforcer.features().grants {
                "grants"
            } else {
                "no grants (needs Linux 5.12)"
            };
            match enforcer.hook() {
                Hook::Lsm => Condition {
                    name,
                    severity: Severity::Good,
                    found: format!("lsm and cgroup hooks, {grants}"),
                    fix: None,
                },
                Hook::Cgroup => Condition {
                    name,
                    severity: Severity::Warning,
                    found: if enforcer.features().set_errno {
                        format!("cgroup hooks only, {grants}")
                    } else {
                        format!(
                            "cgroup hooks only, {grants}, every denial is EPERM (an errno needs Linux 5.18)"
                        )
                    },
                    fix: enforcer
                        .fallback()
                        .map(|reason| format!("the LSM hook: {reason}")),
                },
            }
        }
        Err(error) => Condition {
            name,
            severity: Severity::Missing,
            found: error.to_string(),
            fix: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandbox_names_what_the_kernel_lacks() {
        let all = sandbox(&[]);
        assert_eq!(
            (all.severity, all.found.as_str()),
            (Severity::Good, "seccomp and Landlock")
        );
        let some = sandbox(&["no seccomp".to_owned(), "no Landlock".to_owned()]);
        assert_eq!(
            (some.severity, some.found.as_str()),
            (Severity::Warning, "no seccomp; no Landlock")
        );
        let fix = some.fix.unwrap_or_default();
        assert!(fix.ends_with("runs with less confinement"), "{fix}");
    }
}
