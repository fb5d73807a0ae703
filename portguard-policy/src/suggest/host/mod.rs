//! How a host gets round the rule of the first 1,024 ports without portguard.

mod authbind;
mod binaries;
mod listeners;
mod root;
mod survey;
mod systemd;

pub use root::HostError;
pub use survey::Survey;

use root::read;
use std::path::Path;
use survey::PRIVILEGED;

/// Inspects the host whose root directory is `root`.
///
/// # Errors
/// Where `root` is not the root directory of a host, or a file cannot be read.
pub fn inspect(root: &Path) -> Result<Survey, HostError> {
    if !root.join("etc").is_dir() && !root.join("proc").is_dir() {
        return Err(HostError::NoRoot(root.to_owned()));
    }
    let mut survey = Survey::default();
    let listeners = listeners::find(root)?;
    binaries::inspect(root, &listeners, &mut survey);
    sysctl(root, &mut survey)?;
    authbind::inspect(root, &mut survey)?;
    systemd::inspect(root, &listeners, &mut survey)?;
    survey
        .demands
        .extend(listeners.into_iter().map(|listener| listener.demand));
    Ok(survey)
}

fn sysctl(root: &Path, survey: &mut Survey) -> Result<(), HostError> {
    let path = root.join("proc/sys/net/ipv4/ip_unprivileged_port_start");
    let Some(text) = read(&path)? else {
        return Ok(());
    };
    match text.trim().parse::<u32>() {
        Ok(first) if first <= u32::from(PRIVILEGED) => survey.notes.push(format!(
            "net.ipv4.ip_unprivileged_port_start is {first}: everyone may bind {first}-{PRIVILEGED}; to revoke it:\n  \
             sysctl -w net.ipv4.ip_unprivileged_port_start=1024    # and its line in /etc/sysctl.d"
        )),
        _ => {}
    }
    Ok(())
}
