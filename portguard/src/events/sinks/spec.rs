//! The values of `--sink`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use thiserror::Error;

/// journald's native socket.
const JOURNALD: &str = "/run/systemd/journal/socket";

/// A value of `--sink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkSpec {
    /// Standard output.
    Stdout,
    /// No output.
    None,
    /// journald, by the path of its native socket.
    Journald(PathBuf),
    /// JSON lines at the end of a file.
    File(PathBuf),
    /// A collector of OTLP logs, by its URL.
    #[cfg(feature = "otlp")]
    Otlp(String),
}

/// Why a value of `--sink` is invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SinkSpecError {
    /// Unknown kind.
    #[error("unknown sink `{0}`: expected stdout, none, journald, file:PATH or otlp:URL")]
    Unknown(String),
    /// `file` without a path.
    #[error("`{0}` has no path: expected file:PATH, as in file:/var/log/portguard.jsonl")]
    NoPath(String),
    /// `otlp` without an http URL.
    #[cfg(feature = "otlp")]
    #[error(
        "`{0}` is not a collector's URL: expected otlp:http://HOST:PORT, with a path where it is not /v1/logs; for TLS \
         use a collector on this host that forwards"
    )]
    NoUrl(String),
    /// `otlp` in a build without it.
    #[cfg(not(feature = "otlp"))]
    #[error("`{0}`: this portguard is built without OTLP: build it with `--features otlp`")]
    NotBuilt(String),
}

impl SinkSpec {
    /// The name under which dropped decisions are counted.
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

/// The URL that logs are posted to, by default OTLP's path; `None` where it is invalid.
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
    fn sink_spec_round_trips() {
        for text in ["stdout", "none", "journald", "file:/a:b", "file:rel.jsonl"] {
            let spec: SinkSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), text);
        }
        let file: SinkSpec = "file:/a:b".parse().unwrap();
        assert_eq!(file, SinkSpec::File("/a:b".into()));
        assert_eq!(file.name(), "file");
    }

    #[test]
    fn sink_spec_rejects_unknown_kind() {
        for text in ["", "stdin", "stdout:", "journald:/x", "File:/x"] {
            assert_eq!(
                text.parse::<SinkSpec>().unwrap_err().to_string(),
                format!(
                    "unknown sink `{text}`: expected stdout, none, journald, file:PATH or otlp:URL"
                )
            );
        }
        for text in ["file", "file:"] {
            assert_eq!(
                text.parse::<SinkSpec>().unwrap_err().to_string(),
                format!(
                    "`{text}` has no path: expected file:PATH, as in file:/var/log/portguard.jsonl"
                )
            );
        }
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn sink_spec_reads_collector_url() {
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
                    "`{text}` is not a collector's URL: expected otlp:http://HOST:PORT, with a path where it is not \
                     /v1/logs; for TLS use a collector on this host that forwards"
                )
            );
        }
    }

    #[cfg(not(feature = "otlp"))]
    #[test]
    fn sink_spec_rejects_otlp_without_feature() {
        let text = "otlp:http://127.0.0.1:4318";
        assert_eq!(
            text.parse::<SinkSpec>().unwrap_err().to_string(),
            format!(
                "`{text}`: this portguard is built without OTLP: build it with `--features otlp`"
            )
        );
    }
}
