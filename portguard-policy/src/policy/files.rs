//! Paths -> texts: which files a policy is made of, what is in them, and a digest of both.

use super::diagnostic::{Diagnostic, Diagnostics};
use super::file::MAX_BYTES;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What policy files say at one moment, errors of reading included.
#[derive(Debug, Default)]
pub struct PolicyFiles(Vec<(PathBuf, Result<String, String>)>);

/// Equal where the same files say the same, or fail the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl PolicyFiles {
    /// Reads files and directories: of a directory its `*.yaml` and `*.yml`, in byte order of their names.
    #[must_use]
    pub fn read(paths: &[PathBuf]) -> Self {
        let mut sources = Self::default();
        let mut room = MAX_BYTES;
        for path in paths {
            let files = match files(path) {
                Ok(files) => files,
                Err(message) => {
                    sources.0.push((path.clone(), Err(message)));
                    continue;
                }
            };
            for file in files {
                let text = read_text(&file, room);
                room = room.saturating_sub(text.as_ref().map_or(0, String::len) as u64);
                sources.0.push((file, text));
            }
        }
        sources
    }

    /// What tells these from others: the names in their order, and the text or the error of each.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            // With its length before it, no part can pass for the end of another.
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        for (path, text) in &self.0 {
            part(path.as_os_str().as_encoded_bytes());
            match text {
                Ok(text) => {
                    part(b"text");
                    part(text.as_bytes());
                }
                Err(message) => {
                    part(b"error");
                    part(message.as_bytes());
                }
            }
        }
        Fingerprint(hash.finalize().into())
    }

    /// The texts, and what could not be read.
    pub(super) fn split(self) -> (Vec<(PathBuf, String)>, Diagnostics) {
        let (mut texts, mut problems) = (Vec::new(), Diagnostics::default());
        for (path, text) in self.0 {
            match text {
                Ok(text) => texts.push((path, text)),
                Err(message) => problems.push(Diagnostic::of_file(&path, message)),
            }
        }
        (texts, problems)
    }
}

/// Whether a file of this name in a directory belongs to its policy.
pub fn is_policy_name(name: &OsStr) -> bool {
    !name.as_encoded_bytes().starts_with(b".")
        && Path::new(name)
            .extension()
            .is_some_and(|end| end == "yaml" || end == "yml")
}

/// The files behind a path.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut names = std::fs::read_dir(path)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(|error| format!("cannot list the directory: {error}"))?;
    names.retain(|name| is_policy_name(name));
    names.sort_by(|a, b| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    if names.is_empty() {
        return Err("the directory has no policy files: *.yaml or *.yml".into());
    }
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// Reads a regular file of at most `room` bytes of UTF-8.
fn read_text(path: &Path, room: u64) -> Result<String, String> {
    // Without O_NONBLOCK, opening a fifo would wait for its writer; what was opened is looked at, not
    // what the path names by then.
    let cannot = |error: std::io::Error| format!("cannot read the file: {error}");
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err("this is not a regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(room + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > room {
        return Err(format!(
            "the policy has more than {} MiB of YAML",
            MAX_BYTES >> 20
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        format!(
            "the file is not UTF-8 text: byte {} is not",
            error.utf8_error().valid_up_to() + 1
        )
    })
}
