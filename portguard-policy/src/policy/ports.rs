//! Ports, alone and in ranges.

use super::document::{Node, Number, Span, Value};
use super::reader::Reader;
use std::ops::RangeInclusive;

impl Reader<'_> {
    /// A port: 80 or "80".
    pub(super) fn port(&mut self, node: &Node) -> Option<u16> {
        let range = self.ports(node)?;
        if range.start() != range.end() {
            self.error(node.span, "expected a single port, found a range", None);
            return None;
        }
        Some(*range.start())
    }

    /// A port or a range of ports: 80, "80" or "8000-8010".
    pub(super) fn ports(&mut self, node: &Node) -> Option<RangeInclusive<u16>> {
        let span = node.span;
        let (start, end) = match &node.value {
            Value::Number(number) => {
                let port = self.port_number(span, &number.text, natural(number))?;
                (port, port)
            }
            Value::String(text) => match text.split_once('-') {
                // With a part missing, the whole text is invalid rather than one of its ports.
                Some((start, end)) if start.trim().is_empty() || end.trim().is_empty() => {
                    let port = self.port_number(span, text, digits(text))?;
                    (port, port)
                }
                Some((start, end)) => (
                    self.port_number(span, start.trim(), digits(start.trim()))?,
                    self.port_number(span, end.trim(), digits(end.trim()))?,
                ),
                None => {
                    let port = self.port_number(span, text, digits(text))?;
                    (port, port)
                }
            },
            _ => {
                self.expected("a port or a range like \"8000-8010\"", node);
                return None;
            }
        };
        if start > end {
            self.error(
                node.span,
                format!("invalid port range {start}-{end}: start > end"),
                Some(format!("did you mean \"{end}-{start}\"?")),
            );
            return None;
        }
        Some(start..=end)
    }

    /// Warns of a number that other programs read as octal.
    pub(super) fn warn_of_leading_zero(&mut self, span: Span, text: &str, number: u64) {
        if text.len() > 1 && text.starts_with('0') && digits(text).is_some() {
            let message =
                format!("`{text}` is read as {number}, not as an octal number; write {number}");
            self.warn(span, message);
        }
    }

    fn port_number(&mut self, span: Span, text: &str, number: Option<u64>) -> Option<u16> {
        match number {
            Some(port @ 1..=65_535) => {
                self.warn_of_leading_zero(span, text, port);
                u16::try_from(port).ok()
            }
            Some(_) => {
                self.error(span, format!("port {text} is out of range (1-65535)"), None);
                None
            }
            None => {
                self.error(
                    span,
                    format!("invalid port `{text}`"),
                    Some("expected a number or a range like \"8000-8010\"".into()),
                );
                None
            }
        }
    }
}

/// The number in a text of digits only.
pub(super) fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // A number too long for u64 is out of every range, as the greatest u64 is.
    Some(text.parse().unwrap_or(u64::MAX))
}

/// A number that is not negative and has no fraction.
pub(super) fn natural(number: &Number) -> Option<u64> {
    number.int.or_else(|| digits(&number.text))
}
