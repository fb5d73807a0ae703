//! `portguard run`: becomes the daemon, which is a program of its own.

use crate::exit::Exit;
use crate::stderr::log_line;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The daemon's program.
const DAEMON: &str = "portguardd";

/// Becomes the daemon, with the arguments behind the verb. The process stays the same: its id, its descriptors, and
/// what systemd knows of it.
pub(super) fn run() -> Exit {
    let found = std::env::current_exe().and_then(|own| beside(&own));
    let error = match found {
        // Behind the name of this program and the verb.
        Ok(program) => Command::new(program)
            .args(std::env::args_os().skip(2))
            .exec(),
        Err(error) => error,
    };
    log_line!("portguard: cannot start {DAEMON}: {error}; install portguard again");
    Exit::Environment
}

/// The daemon of the same installation: in the directory of `own`, or where a package has it.
fn beside(own: &Path) -> io::Result<PathBuf> {
    let directory = own.parent().unwrap_or(Path::new("/"));
    let installed = directory.join("../lib/portguard").join(DAEMON);
    let places = [directory.join(DAEMON), installed];
    let [first, _] = &places;
    let missing = format!("no {}", first.display());
    let found = places.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, missing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn daemon_is_beside_the_command_or_where_a_package_has_it() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let root = root.path();
        for directory in ["bin", "lib/portguard"] {
            fs::create_dir_all(root.join(directory))?;
        }
        let own = root.join("bin/portguard");
        let missing = beside(&own).map_err(|error| error.to_string());
        let first = root.join("bin/portguardd");
        assert_eq!(missing, Err(format!("no {}", first.display())));
        fs::write(root.join("lib/portguard/portguardd"), "")?;
        let installed = root.join("bin/../lib/portguard/portguardd");
        assert_eq!(beside(&own)?, installed);
        fs::write(&first, "")?;
        assert_eq!(beside(&own)?, first);
        Ok(())
    }
}
