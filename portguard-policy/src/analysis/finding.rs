//! What lint finds in a policy, as types and as text.

use crate::analysis::space::Effect;
use crate::local_ports::Exposed;
use crate::policy::{Diagnostic, Field, Location, Severity};
use std::fmt;

/// Something in a policy that its author should check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it is.
    pub location: Location,
    /// What it is.
    pub kind: FindingKind,
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// A rule that never decides: none of its ports is protected.
    Unprotected {
        /// The rule.
        rule: String,
    },
    /// A rule that never decides: earlier rules match all of its binds.
    Shadowed {
        /// The rule.
        rule: String,
        /// The last of the earlier rules.
        last: String,
    },
    /// A rule that loses some of its binds to an earlier one with another effect.
    PartiallyShadowed {
        /// The rule.
        rule: String,
        /// The earlier rule.
        earlier: String,
        /// What the earlier rule does with the binds.
        effect: Effect,
        /// Whether the rule denies them, so that only the errno differs where the earlier one does too.
        denies: bool,
        /// The binds: the fields that describe them, each with its values.
        binds: Vec<(Field, String)>,
    },
    /// Protected ports that the kernel of this host assigns without a bind.
    LocalPorts(Exposed),
    /// An `allow` rule, and a kernel that cannot grant.
    NoGrants,
    /// An `allow` rule that names nobody, and so everybody.
    AllowsEverybody {
        /// The rule.
        rule: String,
    },
    /// A denial of all ports to some cgroups, which protects only some ports.
    ProtectedOnly {
        /// The rule.
        rule: String,
        /// The ports that are decided.
        protect: String,
    },
    /// A rule for units, where systemd does not manage the cgroups.
    NoSystemd {
        /// The rule.
        rule: String,
    },
    /// Some of the ports that a rule names are not protected, so that it never decides them.
    PartlyUnprotected {
        /// The rule.
        rule: String,
        /// These ports.
        ports: String,
    },
    /// A unit that only starts another, which has the processes.
    UnitOfUnits {
        /// The rule.
        rule: String,
        /// The unit that it names.
        unit: String,
        /// The one that has the processes.
        real: String,
    },
}

impl Finding {
    /// The name of the rule, where the finding is that it never decides.
    #[must_use]
    pub fn unreachable_rule(&self) -> Option<&str> {
        match &self.kind {
            FindingKind::Unprotected { rule } | FindingKind::Shadowed { rule, .. } => Some(rule),
            FindingKind::PartiallyShadowed { .. }
            | FindingKind::LocalPorts(_)
            | FindingKind::NoGrants
            | FindingKind::AllowsEverybody { .. }
            | FindingKind::ProtectedOnly { .. }
            | FindingKind::NoSystemd { .. }
            | FindingKind::PartlyUnprotected { .. }
            | FindingKind::UnitOfUnits { .. } => None,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match &self.kind {
            FindingKind::Unprotected { .. } | FindingKind::Shadowed { .. } => None,
            FindingKind::PartiallyShadowed { earlier, .. } => Some(format!(
                "if intended, add a test of such a bind that expects rule `{earlier}`"
            )),
            FindingKind::LocalPorts(exposed) => Some(exposed.fix()),
            FindingKind::NoGrants => Some("grants need Linux 5.12 or later".into()),
            FindingKind::AllowsEverybody { .. } => {
                Some("if intended, write `users: [\"0-4294967294\"]`".to_owned())
            }
            FindingKind::ProtectedOnly { .. } => {
                Some("widen `protect`, or name the `ports` that are meant".to_owned())
            }
            FindingKind::PartlyUnprotected { ports, .. } => {
                Some(format!("add to `protect`: {ports}"))
            }
            FindingKind::NoSystemd { .. } => Some("use `users` or `cgroups`".to_owned()),
            FindingKind::UnitOfUnits { unit, real, .. } => {
                Some(format!("write `units: [{unit}, \"{real}\"]`"))
            }
        }
    }

    /// The finding as a warning of the policy's files.
    pub(crate) fn to_diagnostic(&self) -> Diagnostic {
        let message = self.to_string();
        Diagnostic::at(Severity::Warning, self.location.clone(), 1, message).with_help(self.help())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FindingKind::Unprotected { rule } => {
                write!(f, "rule `{rule}` is unreachable: none of its ports is in `protect`")
            }
            FindingKind::Shadowed { rule, last } => write!(
                f,
                "rule `{rule}` is unreachable: shadowed by earlier rules (last: `{last}`)"
            ),
            FindingKind::PartiallyShadowed {
                rule,
                earlier,
                effect,
                denies,
                binds,
            } => {
                let binds: Vec<String> = (binds.iter())
                    .map(|(field, values)| format!("{field} {values}"))
                    .collect();
                let binds = binds.join(", ");
                let does = match effect {
                    Effect::Allow => format!("allows {binds}"),
                    Effect::Deny(errno) if *denies => format!("denies {binds} with {}", errno.as_str()),
                    Effect::Deny(_) => format!("denies {binds}"),
                    Effect::Kernel => format!("leaves {binds} to the kernel"),
                    Effect::AuditAllow | Effect::AuditDeny => format!("only reports {binds}"),
                };
                write!(
                    f,
                    "rule `{rule}` is partially shadowed by the earlier `{earlier}`, which {does}"
                )
            }
            FindingKind::LocalPorts(exposed) => exposed.fmt(f),
            FindingKind::AllowsEverybody { rule } => write!(
                f,
                "rule `{rule}` allows everybody: it has no `users`, `groups`, `cgroups` or `units`"
            ),
            FindingKind::PartlyUnprotected { rule, ports } => write!(
                f,
                "rule `{rule}` does not decide {ports}: not in `protect`"
            ),
            FindingKind::ProtectedOnly { rule, protect } => write!(
                f,
                "rule `{rule}` denies only what is in `protect` ({protect}): other ports are not decided"
            ),
            FindingKind::NoSystemd { rule } => write!(
                f,
                "rule `{rule}` matches nothing here: process 1 is in the root cgroup, so systemd keeps no process in the cgroup of a unit"
            ),
            FindingKind::UnitOfUnits { rule, unit, real } => write!(
                f,
                "rule `{rule}` names `{unit}`, which runs no process on Debian and its relatives: they are in `{real}`"
            ),
            FindingKind::NoGrants => f.write_str(
                "this kernel cannot grant low ports without CAP_NET_BIND_SERVICE: an `allow` only keeps later rules from denying",
            ),
        }
    }
}
