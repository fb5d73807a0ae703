//! The kernel modules of a guest and their dependencies, in the order of loading.

use crate::shell;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Modules of what the tests use: protocols that they bind, an overlay; a kernel may lack some or have them built in.
pub(super) const PROTOCOLS: &[&str] = &[
    "sctp",
    "dccp",
    "dccp_ipv4",
    "dccp_ipv6",
    "vsock",
    "vsock_loopback",
    "smc",
    "tcp_diag",
    "udp_diag",
    "sctp_diag",
    "dccp_diag",
    "udp_tunnel",
    "vxlan",
    "l2tp_netlink",
    "nfs",
    "nfsv3",
    "lockd",
    "sunrpc",
    "overlay",
];

/// Copies the modules of a kernel, uncompressed; returns the names of their files in order.
pub(super) fn copy(from: &Path, into: &Path, wanted: &[&str]) -> Result<Vec<String>> {
    fs::create_dir_all(into)?;
    let mut files = BTreeMap::new();
    index(from, &mut files)?;
    ensure!(!files.is_empty(), "no modules in {}", from.display());
    let mut load = Load {
        files,
        into,
        visited: Vec::new(),
        order: Vec::new(),
    };
    for name in wanted {
        load.module(name)?;
    }
    Ok(load.order)
}

/// Collects the path of each module by its name.
fn index(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?
    {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            index(&entry.path(), files)?;
        } else if let Some(module) = name
            .strip_suffix(".ko")
            .or_else(|| name.strip_suffix(".ko.xz"))
        {
            files.insert(module.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

/// The modules copied so far.
struct Load<'a> {
    files: BTreeMap<String, PathBuf>,
    into: &'a Path,
    visited: Vec<String>,
    order: Vec<String>,
}

impl Load<'_> {
    /// Copies a module after its dependencies.
    fn module(&mut self, name: &str) -> Result<()> {
        let name = name.replace('-', "_");
        if self.visited.contains(&name) {
            return Ok(());
        }
        self.visited.push(name.clone());
        let Some(file) = self.files.get(&name) else {
            return Ok(());
        };
        let bytes = uncompressed(file).with_context(|| format!("reading {}", file.display()))?;
        for other in dependencies(&bytes) {
            self.module(&other)?;
        }
        let file = format!("{name}.ko");
        fs::write(self.into.join(&file), bytes).with_context(|| format!("copying {file}"))?;
        self.order.push(file);
        Ok(())
    }
}

/// The content of a module.
fn uncompressed(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|extension| extension == "ko") {
        return Ok(fs::read(file)?);
    }
    let mut xz = shell::command("xz");
    let output = xz.arg("-dc").arg(file).stderr(Stdio::inherit()).output()?;
    ensure!(
        output.status.success(),
        "`{}` failed: {}",
        shell::line(&xz),
        output.status
    );
    Ok(output.stdout)
}

/// The dependencies of a module: the entry `depends=a,b` among its strings.
fn dependencies(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|window| window == key) else {
        return Vec::new();
    };
    let value = module.get(at + key.len()..).unwrap_or_default();
    let end = value
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(value.len());
    let names = String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned();
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    #[test]
    fn dependencies_are_read_from_the_strings_of_a_module() {
        let module = b"\x7fELF\0license=GPL\0depends=libcrc32c,udp_tunnel\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["libcrc32c", "udp_tunnel"]);
        assert!(dependencies(b"ELF\0depends=\0name=x\0").is_empty());
        assert!(dependencies(b"ELF").is_empty());
    }
}
