//! The users and groups of the host that a policy is checked for.

use crate::stderr::log_line;
use portguard_policy::policy::{NameService, StaticNames, SymbolicNames, SystemNames};
use std::path::PathBuf;

/// The host that a policy is checked for.
#[derive(clap::Args)]
pub(super) struct ForHost {
    /// Evaluate `hosts:` as this host; its users and groups are symbols, unless --names has them
    #[arg(long, value_name = "NAME")]
    pub(super) host: Option<String>,
    /// Users and groups of the host: lines of passwd, of group, or `NAME: UID`; may be repeated
    #[arg(long, value_name = "FILE")]
    names: Vec<PathBuf>,
}

/// Where its names come from.
pub(super) enum HostNames {
    /// This host.
    Local(SystemNames),
    /// Files.
    Listed(StaticNames),
    /// Nowhere: each name is known, and stands for itself.
    Symbolic(SymbolicNames),
}

impl ForHost {
    /// The names of the host.
    pub(super) fn names(&self) -> anyhow::Result<HostNames> {
        let here = SystemNames::LOCAL.hostname();
        let host = self.host.as_deref().unwrap_or(&here);
        if !self.names.is_empty() {
            return Ok(HostNames::Listed(StaticNames::read(&self.names, host)?));
        }
        Ok(match host == here {
            true => HostNames::Local(SystemNames::LOCAL),
            false => HostNames::Symbolic(SymbolicNames::new(host)),
        })
    }
}

impl HostNames {
    pub(super) fn service(&self) -> &dyn NameService {
        match self {
            Self::Local(names) => names,
            Self::Listed(names) => names,
            Self::Symbolic(names) => names,
        }
    }

    /// Says that names were not looked up, where a policy has any.
    pub(super) fn note(&self) {
        if let Self::Symbolic(names) = self
            && names.has_any()
        {
            let host = portguard_policy::escape::escape(names.hostname().as_bytes());
            log_line!(
                "portguard: the users and groups of {host} are not known here: every name is taken as one that it has; \
                 --names FILE gives them"
            );
        }
    }
}
