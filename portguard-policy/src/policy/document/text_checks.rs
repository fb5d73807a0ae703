//! Checks before parsing: control characters, directives for other versions of YAML, and what takes the parser
//! too much memory.

use super::builder::MAX_NODES;
use super::{Span, YamlError};

/// The first error.
pub(super) fn check(text: &str) -> Option<YamlError> {
    control(text)
        .or_else(|| version(text))
        .or_else(|| flow_entries(text))
}

/// The first control character that YAML does not allow.
fn control(text: &str) -> Option<YamlError> {
    let refused = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let (at, character) = text.char_indices().find(|(_, c)| refused(*c))?;
    let span = Span::after(text.get(..at)?);
    let number = u32::from(character);
    let message = format!("control character U+{number:04X} is not allowed in YAML");
    Some(YamlError { span, message })
}

/// More entries of flow collections than a file may have values. The parser reads a flow collection to its end before
/// its first event, at hundreds of bytes for each entry.
fn flow_entries(text: &str) -> Option<YamlError> {
    let mut marks = text.match_indices([',', '[', '{']);
    let (at, _) = marks.nth(MAX_NODES)?;
    let message = format!("the file has more than {MAX_NODES} commas and opening brackets");
    let span = Span::after(text.get(..at)?);
    Some(YamlError { span, message })
}

/// A `%YAML` directive for another version than 1.1 and 1.2: the parser reads every version as 1.2.
fn version(text: &str) -> Option<YamlError> {
    let is_comment = |line: &str| line.trim_start().is_empty() || line.starts_with('#');
    let directives = text
        .lines()
        .zip(1..)
        .filter(|(line, _)| !is_comment(line))
        .take_while(|(line, _)| line.starts_with('%'));
    for (line, number) in directives {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("%YAML")
            && let Some(version) = words.next()
            && !matches!(version, "1.1" | "1.2")
        {
            let span = Span {
                line: number,
                column: 1,
                len: line.chars().count(),
            };
            let message = format!("unsupported YAML version {version}, expected 1.2");
            return Some(YamlError { span, message });
        }
    }
    None
}
