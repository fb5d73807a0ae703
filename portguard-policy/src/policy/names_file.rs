//! Files of names, to check a policy for a machine that is not at hand.

use super::name_service::StaticNames;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a file of names cannot be used.
#[derive(Debug, Error)]
pub enum NamesFileError {
    /// It cannot be read.
    #[error("{}: cannot read file: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line has no names.
    #[error(
        "{}:{line}: expected a line of passwd (as `getent passwd` prints it), a line of group, or `NAME: UID`",
        .path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl StaticNames {
    /// The users and groups of files, on the host of this name. Each line is one of passwd(5), one of group(5), or
    /// `NAME: UID`. Of a name that is there twice, the first line counts, as in /etc/passwd.
    ///
    /// # Errors
    /// A file cannot be read, or a line is none of these.
    pub fn read(files: &[PathBuf], host: &str) -> Result<Self, NamesFileError> {
        let mut names = Self::new(&[("root", 0)], &[("root", 0)], host);
        for path in files {
            let text = std::fs::read_to_string(path).map_err(|source| NamesFileError::Read {
                path: path.clone(),
                source,
            })?;
            names.add(path, &text)?;
        }
        Ok(names)
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<(), NamesFileError> {
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            // Lines that begin with + or - stand for names of NIS.
            if line.is_empty() || line.starts_with(['#', '+', '-']) {
                continue;
            }
            self.add_line(line).ok_or_else(|| NamesFileError::Line {
                path: path.to_owned(),
                line: number,
            })?;
        }
        Ok(())
    }

    fn add_line(&mut self, line: &str) -> Option<()> {
        match line.split(':').collect::<Vec<_>>()[..] {
            [name, uid] => self.add_user(name.trim(), uid.trim().parse().ok()?),
            [name, _, uid, gid, _, _, _] => {
                self.add_user(name, uid.parse().ok()?);
                self.add_member(name, gid.parse().ok()?);
            }
            [name, _, gid, members] => {
                let gid = gid.parse().ok()?;
                self.add_group(name, gid);
                let members = members.split(',').filter(|member| !member.is_empty());
                members.for_each(|member| self.add_member(member.trim(), gid));
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::NameService as _;

    fn names(text: &str) -> Result<StaticNames, NamesFileError> {
        let mut names = StaticNames::new(&[], &[], "web-7");
        names.add(Path::new("names"), text).map(|()| names)
    }

    #[test]
    fn names_file_takes_lines_of_passwd_of_group_and_of_ids() {
        let text = "# web-7\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n+@netgroup\n\n\
                    web:x:1500:alice,www-data\nalice: 1000\nwww-data: 7\n";
        let names = names(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(names.uid("www-data"), Some(33));
        assert_eq!(names.uid("alice"), Some(1000));
        assert_eq!(names.gid("web"), Some(1500));
        assert_eq!(names.gids_of("www-data"), [33, 1500]);
        assert_eq!(names.gids_of("alice"), [1500]);
        assert_eq!(names.uid("bob"), None);
    }

    #[test]
    fn names_file_error_names_the_line() {
        for text in [
            "alice: 1000\nbob",
            "alice: 1\nbob: x",
            "alice: 1\na:b:c:d:e",
        ] {
            let error = names(text).err().map(|error| error.to_string());
            let expected = "names:2: expected a line of passwd (as `getent passwd` prints it), a line of group, \
                            or `NAME: UID`";
            assert_eq!(error.as_deref(), Some(expected), "{text}");
        }
    }
}
