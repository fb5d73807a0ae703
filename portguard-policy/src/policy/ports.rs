//! Ports, alone and in ranges.

use super::reader::Reader;
use serde_yaml::Value;
use std::ops::RangeInclusive;

impl Reader<'_> {
    /// A port: 80 or "80".
    pub(super) fn port(&mut self, value: &Value, path: &str) -> Option<u16> {
        let range = self.ports(value, path)?;
        if range.start() != range.end() {
            self.error(path, "expected one port, found a range", None);
            return None;
        }
        Some(*range.start())
    }

    /// A port or a range of ports: 80, "80" or "8000-8010".
    pub(super) fn ports(&mut self, value: &Value, path: &str) -> Option<RangeInclusive<u16>> {
        let (start, end) = match value {
            Value::Number(number) => {
                let port = self.port_number(path, &number.to_string())?;
                (port, port)
            }
            Value::String(text) => match text.split_once('-') {
                // A part that is missing is not the problem: the whole is no port.
                Some((start, end)) if start.trim().is_empty() || end.trim().is_empty() => {
                    let port = self.port_number(path, text)?;
                    (port, port)
                }
                Some((start, end)) => (
                    self.port_number(path, start.trim())?,
                    self.port_number(path, end.trim())?,
                ),
                None => {
                    let port = self.port_number(path, text)?;
                    (port, port)
                }
            },
            _ => {
                self.expected(path, "a port or a range like \"8000-8010\"", value);
                return None;
            }
        };
        if start > end {
            self.error(
                path,
                format!("port range {start}-{end} is empty: the start is above the end"),
                Some(format!("write \"{end}-{start}\"")),
            );
            return None;
        }
        Some(start..=end)
    }

    fn port_number(&mut self, path: &str, text: &str) -> Option<u16> {
        match digits(text) {
            Some(port @ 1..=65_535) => u16::try_from(port).ok(),
            Some(_) => {
                self.error(
                    path,
                    format!("port {text} is out of range: ports are 1 to 65535"),
                    None,
                );
                None
            }
            None => {
                self.error(
                    path,
                    format!("`{text}` is not a port"),
                    Some("ports are 80 or \"8000-8010\"".into()),
                );
                None
            }
        }
    }
}

/// A number written in digits alone.
pub(super) fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Longer than u64 is as wrong as the greatest u64.
    Some(text.parse().unwrap_or(u64::MAX))
}
