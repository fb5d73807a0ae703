//! Paths -> texts: which files a policy is made of, what is in them, and a digest of both.

use super::diagnostic::{Diagnostic, Diagnostics};
use super::directory;
use super::document::Span;
use super::file::MAX_BYTES;
use super::layers;
use super::trust;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The path that stands for standard input.
const STDIN: &str = "-";

/// The contents of policy files at one moment, read errors included.
#[derive(Clone, Debug, Default)]
pub struct PolicyFiles(Vec<SourceFile>);

#[derive(Clone, Debug)]
struct SourceFile {
    path: PathBuf,
    text: Result<String, ReadError>,
    /// What it says is not for those who may read what a daemon reports.
    private: bool,
}

/// The texts of policy files, and what is known of them before they are parsed.
#[derive(Default)]
pub(super) struct Texts {
    /// Each file and its text.
    pub(super) texts: Vec<(PathBuf, String)>,
    /// Files whose contents no message may quote.
    pub(super) private: HashSet<PathBuf>,
    /// Files that could not be read.
    pub(super) problems: Diagnostics,
}

/// Why a file has no text, and where in it the reason is.
#[derive(Clone, Debug)]
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
    /// their names. The [`super::DEFAULT_PATHS`] are one directory.
    #[must_use]
    pub fn read(paths: &[PathBuf]) -> Self {
        Self::read_by(paths, |_| Ok(()), |_| false)
    }

    /// The same for a daemon that acts on them. A file that others than root and the user of this process could change is
    /// not read, and an error instead. Of a file that a symbolic link leads out of its directory no message says what is in
    /// it.
    #[must_use]
    pub fn read_trusted(paths: &[PathBuf]) -> Self {
        Self::read_by(paths, trust::check, trust::is_outside)
    }

    /// The same without a check of who could change the files.
    #[must_use]
    pub fn read_shown(paths: &[PathBuf]) -> Self {
        Self::read_by(paths, |_| Ok(()), trust::is_outside)
    }

    fn read_by(
        paths: &[PathBuf],
        check: impl Fn(&Path) -> Result<(), String>,
        is_private: impl Fn(&Path) -> bool,
    ) -> Self {
        let mut sources = Self::default();
        let mut room = MAX_BYTES;
        for (at, (path, files)) in listed(paths).into_iter().enumerate() {
            if path.as_os_str() == STDIN {
                let again = paths.iter().take(at).any(|before| before == path);
                let text = if again {
                    Err("standard input is given twice".to_owned().into())
                } else {
                    read_stdin(room)
                };
                room = room.saturating_sub(text.as_ref().map_or(0, String::len) as u64);
                sources.0.push(SourceFile {
                    path: path.to_owned(),
                    text,
                    private: false,
                });
                continue;
            }
            let files = match check(path).and(files) {
                Ok(files) => files,
                Err(message) => {
                    sources.0.push(SourceFile {
                        path: path.to_owned(),
                        text: Err(message.into()),
                        private: false,
                    });
                    continue;
                }
            };
            for file in files {
                let text = check(&file).map_err(ReadError::from);
                let text = text.and_then(|()| read_text(&file, room));
                room = room.saturating_sub(text.as_ref().map_or(0, String::len) as u64);
                sources.0.push(SourceFile {
                    private: is_private(&file),
                    path: file,
                    text,
                });
            }
        }
        sources
    }

    /// These files with their texts, and whether messages must not quote them.
    #[must_use]
    pub fn of_texts(files: impl IntoIterator<Item = (PathBuf, String, bool)>) -> Self {
        let files = files.into_iter().map(|(path, text, private)| SourceFile {
            path,
            text: Ok(text),
            private,
        });
        Self(files.collect())
    }

    /// The files that could be read, as [`Self::of_texts`] takes them.
    pub fn texts(&self) -> impl Iterator<Item = (&Path, &str, bool)> {
        self.0.iter().filter_map(|file| {
            let text = file.text.as_ref().ok()?;
            Some((file.path.as_path(), text.as_str(), file.private))
        })
    }

    /// The files that [`Self::read`] reads now.
    #[must_use]
    pub fn list(paths: &[PathBuf]) -> Vec<PathBuf> {
        let files = listed(paths).into_iter();
        files
            .flat_map(|(_, files)| files.unwrap_or_default())
            .collect()
    }

    /// A digest of the names, in their order, and of the text or the error of each.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| part(&mut hash, bytes);
        for SourceFile { path, text, .. } in &self.0 {
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

    /// The first 12 hex digits of a digest of the files' names, without directories and in their order, and contents: equal
    /// wherever the same files are read, whatever the names in them mean there.
    #[must_use]
    pub fn revision(&self) -> String {
        let mut hash = Sha256::new();
        for (path, text, _) in self.texts() {
            let name = path.file_name().unwrap_or(path.as_os_str());
            part(&mut hash, name.as_encoded_bytes());
            part(&mut hash, text.as_bytes());
        }
        let digest = hash.finalize();
        let digits = digest.iter().take(6).map(|byte| format!("{byte:02x}"));
        digits.collect()
    }

    /// The texts, and the files that could not be read.
    pub(super) fn split(self) -> Texts {
        let mut all = Texts::default();
        for file in self.0 {
            if file.private {
                all.private.insert(file.path.clone());
            }
            match file.text {
                Ok(text) => all.texts.push((file.path, text)),
                Err(ReadError { span, message }) => {
                    let problem = Diagnostic::unquoted(&file.path, span, message);
                    all.problems.push(problem);
                }
            }
        }
        all
    }
}

/// Adds bytes to a digest. Their length keeps parts apart: no bytes can move from one to the next.
fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// The files behind each path; the two default directories are one.
fn listed(paths: &[PathBuf]) -> Vec<(&Path, Result<Vec<PathBuf>, String>)> {
    match layers::of(paths) {
        Some(both) => vec![(both[1], layers::files(both))],
        None => paths.iter().map(|path| (&**path, files(path))).collect(),
    }
}

/// The files behind a path.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let names = directory::names(path)?;
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
