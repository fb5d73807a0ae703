//! What `--sink` takes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use thiserror::Error;

/// Where journald listens.
const JOURNALD: &str = "/run/systemd/journal/socket";

/// A value of `--sink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkSpec {
    /// Standard output.
    Stdout,
    /// Nowhere.
    None,
    /// journald, by the path of its native socket.
    Journald(PathBuf),
    /// JSON lines at the end of a file.
    File(PathBuf),
    /// A collector of OTLP logs, by its URL.
    #[cfg(feature = "otlp")]
    Otlp(String),
}

/// Why a value of `--sink` is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SinkSpecError {
    /// No such sink.
    #[error("`{0}` is no sink: give stdout, none, journald, file:PATH or otlp:URL")]
    Unknown(String),
    /// `file` without a path.
    #[error("`{0}` names no file: give file:PATH, as in file:/var/log/portguard.jsonl")]
    NoPath(String),
    /// `otlp` with what is no URL.
    #[cfg(feature = "otlp")]
    #[error(
        "`{0}` names no collector: give otlp:http://HOST:PORT, or with the path in place of /v1/logs; for TLS \
         send to a collector on this host that forwards"
    )]
    NoUrl(String),
    /// `otlp` where it is left out.
    #[cfg(not(feature = "otlp"))]
    #[error("`{0}`: this portguard is built without OTLP: build it with `--features otlp`")]
    NotBuilt(String),
}

impl SinkSpec {
    /// The name that drops are counted under.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::None => "none",
            Self::Journald(_) => "journald",
            Self::File(_) => "file",
            #[cfg(feature = "otlp")]
            Self::Otlp(_) => "otlp",
        }
    }
}

impl FromStr for SinkSpec {
    type Err = SinkSpecError;

    fn from_str(text: &str) -> Result<Self, SinkSpecError> {
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        match (kind, rest) {
            ("stdout", None) => Ok(Self::Stdout),
            ("none", None) => Ok(Self::None),
            ("journald", None) => Ok(Self::Journald(JOURNALD.into())),
            ("file", None | Some("")) => Err(SinkSpecError::NoPath(text.into())),
            ("file", Some(path)) => Ok(Self::File(path.into())),
            #[cfg(feature = "otlp")]
            ("otlp", rest) => match rest.and_then(logs_url) {
                Some(url) => Ok(Self::Otlp(url)),
                None => Err(SinkSpecError::NoUrl(text.into())),
            },
            #[cfg(not(feature = "otlp"))]
            ("otlp", _) => Err(SinkSpecError::NotBuilt(text.into())),
            _ => Err(SinkSpecError::Unknown(text.into())),
        }
    }
}

/// The URL that logs are posted to; `None` where it is none. Without a path it is OTLP's own.
#[cfg(feature = "otlp")]
fn logs_url(text: &str) -> Option<String> {
    let url: hyper::Uri = text.parse().ok()?;
    let host = url.host().is_some_and(|host| !host.is_empty());
    if url.scheme_str() != Some("http") || !host {
        return None;
    }
    if url.path() == "/" {
        return Some(format!("{}/v1/logs", text.trim_end_matches('/')));
    }
    Some(text.to_owned())
}

impl fmt::Display for SinkSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "file:{}", path.display()),
            #[cfg(feature = "otlp")]
            Self::Otlp(url) => write!(out, "otlp:{url}"),
            Self::Stdout | Self::None | Self::Journald(_) => out.write_str(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sink_is_read_and_shown_as_written() {
        for text in ["stdout", "none", "journald", "file:/a:b", "file:rel.jsonl"] {
            let choice: SinkSpec = text.parse().unwrap();
            assert_eq!(choice.to_string(), text);
        }
        let file: SinkSpec = "file:/a:b".parse().unwrap();
        assert_eq!(file, SinkSpec::File("/a:b".into()));
        assert_eq!(file.name(), "file");
    }

    #[test]
    fn what_is_no_sink_is_told_what_is() {
        for text in ["", "stdin", "stdout:", "journald:/x", "File:/x"] {
            assert_eq!(
                text.parse::<SinkSpec>().unwrap_err().to_string(),
                format!("`{text}` is no sink: give stdout, none, journald, file:PATH or otlp:URL")
            );
        }
        for text in ["file", "file:"] {
            assert_eq!(
                text.parse::<SinkSpec>().unwrap_err().to_string(),
                format!(
                    "`{text}` names no file: give file:PATH, as in file:/var/log/portguard.jsonl"
                )
            );
        }
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn a_collector_is_named_by_its_url() {
        for (text, url) in [
            (
                "otlp:http://127.0.0.1:4318",
                "http://127.0.0.1:4318/v1/logs",
            ),
            ("otlp:http://[::1]:4318/", "http://[::1]:4318/v1/logs"),
            ("otlp:http://host/own/path", "http://host/own/path"),
        ] {
            assert_eq!(text.parse(), Ok(SinkSpec::Otlp(url.into())));
        }
        for text in ["otlp", "otlp:", "otlp:127.0.0.1:4318", "otlp:https://host"] {
            assert_eq!(
                text.parse::<SinkSpec>().unwrap_err().to_string(),
                format!(
                    "`{text}` names no collector: give otlp:http://HOST:PORT, or with the path in place of \
                     /v1/logs; for TLS send to a collector on this host that forwards"
                )
            );
        }
    }

    #[cfg(not(feature = "otlp"))]
    #[test]
    fn a_collector_needs_the_feature() {
        let text = "otlp:http://127.0.0.1:4318";
        assert_eq!(
            text.parse::<SinkSpec>().unwrap_err().to_string(),
            format!(
                "`{text}`: this portguard is built without OTLP: build it with `--features otlp`"
            )
        );
    }
}
