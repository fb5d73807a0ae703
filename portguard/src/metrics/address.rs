//! Where metrics are served: a TCP address or a Unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use thiserror::Error;

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsAddress {
    /// `ADDR:PORT`.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// Why a text is no address for metrics.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MetricsAddressError {
    /// A Unix socket without an absolute path.
    #[error("unix: needs an absolute path, such as unix:/run/portguard/metrics.sock")]
    NotAbsolute,
    /// Neither kind.
    #[error(
        "give ADDR:PORT with a numeric address, such as 127.0.0.1:9464 or [::1]:9464, or unix:PATH"
    )]
    Unknown,
}

impl FromStr for MetricsAddress {
    type Err = MetricsAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            let is_file = path.is_absolute() && path.file_name().is_some();
            return if is_file {
                Ok(Self::Unix(path))
            } else {
                Err(MetricsAddressError::NotAbsolute)
            };
        }
        let address = text.parse().map_err(|_| MetricsAddressError::Unknown)?;
        Ok(Self::Tcp(address))
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(to),
            Self::Unix(path) => write!(to, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_tcp_or_unix() {
        for text in ["127.0.0.1:9464", "[::1]:9464", "unix:/run/m.sock"] {
            let address: MetricsAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let unix = "unix:/run/m.sock".parse();
        assert_eq!(unix, Ok(MetricsAddress::Unix("/run/m.sock".into())));
    }

    #[test]
    fn address_errors_name_what_is_expected() {
        let error = |text: &str| text.parse::<MetricsAddress>().unwrap_err().to_string();
        for text in ["9464", "localhost:9464", "127.0.0.1", "/run/m.sock", ""] {
            assert_eq!(
                error(text),
                "give ADDR:PORT with a numeric address, such as 127.0.0.1:9464 or [::1]:9464, or unix:PATH"
            );
        }
        for text in ["unix:", "unix:m.sock", "unix:/"] {
            assert_eq!(
                error(text),
                "unix: needs an absolute path, such as unix:/run/portguard/metrics.sock"
            );
        }
    }
}
