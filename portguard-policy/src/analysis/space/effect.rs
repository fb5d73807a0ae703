//! What a policy does with a bind.

use crate::policy::Rule;
use portguard_common::Verdict;

/// What a policy makes of a region.
#[derive(Clone, Copy, Debug)]
pub struct Effect<'a> {
    /// The verdict; `None` where nothing is decided.
    pub verdict: Option<Verdict>,
    /// Whether it is carried out.
    pub enforced: bool,
    /// The deciding rule; `None` for the default.
    pub rule: Option<&'a Rule>,
}

impl Effect<'_> {
    /// Nothing is decided.
    pub const UNDECIDED: Self = Self {
        verdict: None,
        enforced: false,
        rule: None,
    };

    /// What becomes of the bind, and what is said of it in audit mode.
    #[must_use]
    pub const fn effect(&self) -> &'static str {
        match (self.verdict, self.enforced) {
            (None | Some(Verdict::Kernel), _) => "kernel",
            (Some(Verdict::Allow), true) => "allow",
            (Some(Verdict::Deny), true) => "deny",
            (Some(Verdict::Allow), false) => "kernel (audit: allow)",
            (Some(Verdict::Deny), false) => "kernel (audit: deny)",
        }
    }
}
