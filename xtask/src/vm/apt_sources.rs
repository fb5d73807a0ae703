//! The Debian archive that apt on this machine uses, and its keys.

use std::path::Path;

/// An archive: its address, and the keys that sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) uri: String,
    pub(super) signed_by: Option<String>,
}

impl Source {
    /// The text of a source file for another suite of this archive.
    pub(super) fn deb822(&self, suite: &str) -> String {
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n",
            self.uri
        );
        if let Some(keys) = &self.signed_by {
            text.push_str(&format!("Signed-By: {keys}\n"));
        }
        text
    }
}

/// The first source of this machine that is the Debian archive.
pub(super) fn debian() -> Option<Source> {
    let mut files = vec!["/etc/apt/sources.list".into()];
    let parts = std::fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten();
    let mut parts: Vec<_> = parts.map(|entry| entry.path()).collect();
    parts.sort();
    files.append(&mut parts);
    files.iter().find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        let sources = match file.extension()?.to_str()? {
            "list" => one_line(&text),
            "sources" => stanzas(&text),
            _ => Vec::new(),
        };
        sources.into_iter().map(through_mirror_list).find(is_debian)
    })
}

/// Whether this is the Debian archive itself, not that of its security updates.
fn is_debian(source: &Source) -> bool {
    source.uri.trim_end_matches('/').ends_with("/debian")
}

/// Replaces a file of mirrors by its first mirror.
fn through_mirror_list(source: Source) -> Source {
    let first = source.uri.strip_prefix("mirror+file:").and_then(|list| {
        let text = std::fs::read_to_string(Path::new(list)).ok()?;
        text.lines()
            .find_map(|line| line.split_whitespace().next().map(str::to_owned))
    });
    match first {
        Some(uri) => Source { uri, ..source },
        None => source,
    }
}

/// The sources in lines `deb [signed-by=FILE] URI SUITE COMPONENT`.
fn one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_line_source).collect()
}

fn one_line_source(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="));
    Some(Source {
        uri: rest.split_whitespace().next()?.to_owned(),
        signed_by: signed_by.map(|keys| keys.replace(',', " ")),
    })
}

/// The sources in paragraphs of fields.
fn stanzas(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(stanza(&std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn stanza(fields: &[(String, String)]) -> Vec<Source> {
    let field = |name: &str| {
        fields
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    };
    let has = |name, word| field(name).is_some_and(|v| v.split_whitespace().any(|w| w == word));
    if !has("types", "deb") || has("enabled", "no") {
        return Vec::new();
    }
    let uris = field("uris").map_or("", String::as_str).split_whitespace();
    let source = |uri: &str| Source {
        uri: uri.to_owned(),
        signed_by: field("signed-by").cloned(),
    };
    uris.map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(sources: Vec<Source>) -> Option<Source> {
        sources.into_iter().find(is_debian)
    }

    #[test]
    fn one_line_reads_sources_with_and_without_options() {
        let text = "# deb http://old.example/debian sid main\n\
                    deb http://security.example/debian-security bookworm-security main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian/ bookworm main\n";
        let found = first(one_line(text));
        let uri = "http://a.example/debian/".to_owned();
        assert_eq!(
            found,
            Some(Source {
                uri,
                signed_by: Some("/k.gpg".to_owned())
            })
        );
        let plain = first(one_line("deb https://b.example/debian trixie main contrib"));
        assert_eq!(plain.and_then(|source| source.signed_by), None);
        assert_eq!(
            first(one_line("deb-src http://a.example/debian sid main")),
            None
        );
    }

    #[test]
    fn stanzas_reads_sources_with_embedded_keys() {
        let text = "Types: deb\n# a comment\nURIs: http://x.example/other\nSuites: s\n\n\
                    Types: deb deb-src\nURIs: http://a.example/debian\nSuites: bookworm\n\
                    Signed-By:\n -----BEGIN\n .\n -----END\n";
        let found = first(stanzas(text));
        let keys = found.and_then(|source| source.signed_by);
        assert_eq!(keys.as_deref(), Some("\n -----BEGIN\n .\n -----END"));
        assert_eq!(
            first(stanzas(&text.replace("deb deb-src", "deb-src"))),
            None
        );
        assert_eq!(first(stanzas(&format!("{text}Enabled: no\n"))), None);
    }

    #[test]
    fn deb822_keeps_the_keys() {
        let uri = "http://a.example/debian".to_owned();
        let source = Source {
            uri,
            signed_by: Some("/k.gpg".to_owned()),
        };
        let text = source.deb822("trixie");
        assert!(text.contains("\nSuites: trixie\n") && text.ends_with("Signed-By: /k.gpg\n"));
    }
}
