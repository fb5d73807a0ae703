//! Paths -> texts: which files a policy is made of, what is in them, and a digest of both.

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::Span;
use super::file::MAX_BYTES;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The path that stands for standard input.
const STDIN: &str = "-";

/// The contents of policy files at one moment, read errors included.
#[derive(Debug, Default)]
pub struct PolicyFiles(Vec<(PathBuf, Result<String, ReadError>)>);

/// Why a file has no text, and where in it the reason is.
#[derive(Debug)]
struct ReadError {
    span: Span,
    message: String,
}

impl From<String> for ReadError {
    fn from(message: String) -> Self {
        let span = Span::START;
        Self { span, message }
    }
}

/// Equal where the same files have the same contents, or fail in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl PolicyFiles {
    /// Reads files, directories and, for `-`, standard input: of a directory its `*.yaml` and `*.yml`, in byte order of
    /// their names.
    #[must_use]
    pub fn read(paths: &[PathBuf]) -> Self {
        let mut sources = Self::default();
        let mut room = MAX_BYTES;
        for (at, path) in paths.iter().enumerate() {
            if path.as_os_str() == STDIN {
                let again = paths.iter().take(at).any(|before| before == path);
                let text = if again {
                    Err("standard input is given twice".to_owned().into())
                } else {
                    read_stdin(room)
                };
                room = room.saturating_sub(text.as_ref().map_or(0, String::len) as u64);
                sources.0.push((path.clone(), text));
                continue;
            }
            let files = match files(path) {
                Ok(files) => files,
                Err(message) => {
                    sources.0.push((path.clone(), Err(message.into())));
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

    /// A digest of the names, in their order, and of the text or the error of each.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            // The length keeps parts apart: no bytes can move from one to the next.
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
                Err(error) => {
                    part(b"error");
                    part(error.message.as_bytes());
                }
            }
        }
        Fingerprint(hash.finalize().into())
    }

    /// The texts, and the files that could not be read.
    pub(super) fn split(self) -> (Vec<(PathBuf, String)>, Diagnostics) {
        let (mut texts, mut problems) = (Vec::new(), Diagnostics::default());
        for (path, text) in self.0 {
            match text {
                Ok(text) => texts.push((path, text)),
                Err(error) => {
                    problems.push(Diagnostic::unquoted(&path, error.span, error.message));
                }
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
        .map_err(|error| format!("cannot list directory: {error}"))?;
    names.retain(|name| is_policy_name(name));
    names.sort_by(|a, b| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    if names.is_empty() {
        return Err("no policy files (*.yaml, *.yml) in this directory".into());
    }
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// Reads a regular file of at most `room` bytes of UTF-8.
fn read_text(path: &Path, room: u64) -> Result<String, ReadError> {
    // Without O_NONBLOCK, opening a FIFO would wait for its writer. The type is checked on the open file: the
    // path may name another one by then.
    let cannot = |error: std::io::Error| format!("cannot read file: {error}");
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err("not a regular file".to_owned().into());
    }
    text_of(file, room)
}

fn read_stdin(room: u64) -> Result<String, ReadError> {
    text_of(std::io::stdin().lock(), room)
}

fn text_of(reader: impl Read, room: u64) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    reader
        .take(room + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read file: {error}"))?;
    if bytes.len() as u64 > room {
        let limit = MAX_BYTES >> 20;
        return Err(format!("policy files exceed {limit} MiB in total").into());
    }
    String::from_utf8(bytes).map_err(|error| invalid_utf8(error.as_bytes()))
}

/// The first byte that is not UTF-8, and its place.
fn invalid_utf8(bytes: &[u8]) -> ReadError {
    let valid = bytes.utf8_chunks().next();
    let before = valid.map_or("", |chunk| chunk.valid());
    let byte = bytes.get(before.len()).copied().unwrap_or_default();
    ReadError {
        span: Span::after(before.strip_prefix('\u{feff}').unwrap_or(before)),
        message: format!("invalid UTF-8: byte 0x{byte:02x}"),
    }
}
