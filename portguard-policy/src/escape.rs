//! Escapes text that a process controls, so that no control character reaches a terminal.

/// Escapes control characters (C0, DEL, C1), direction marks, line separators and bytes that are not UTF-8.
///
/// The result is printable, and [`unescape`] reverts it: `\` is escaped too.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_unsafe(character) || character == '\\' {
                out.extend(character.escape_default());
            } else {
                out.push(character);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Reverts [`escape`]; `None` where the text is not its output, or was not UTF-8.
#[must_use]
pub fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        let mut characters = escaped.chars();
        let character = match characters.next()? {
            '\\' => '\\',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'x' => {
                let (digits, after) = characters.as_str().split_at_checked(2)?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
                continue;
            }
            'u' => {
                let (digits, after) = characters.as_str().strip_prefix('{')?.split_once('}')?;
                characters = after.chars();
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
            }
            _ => return None,
        };
        bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = characters.as_str();
    }
    bytes.extend(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

/// Control characters, Unicode's `Bidi_Control` (which reorders the text around it), and its line and paragraph
/// separators, which some viewers break lines at.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_replaces_what_a_terminal_interprets() {
        assert_eq!(escape(b"\x1b[31mred\n"), "\\u{1b}[31mred\\n");
        assert_eq!(escape(b"a\xffb\\"), "a\\xffb\\\\");
        assert_eq!(escape("c\u{9b}1m".as_bytes()), "c\\u{9b}1m");
        assert_eq!(escape("\u{202e}x".as_bytes()), "\\u{202e}x");
        assert_eq!(escape("\u{61c}x".as_bytes()), "\\u{61c}x");
        assert_eq!(escape("a\u{2028}b".as_bytes()), "a\\u{2028}b");
        assert_eq!(escape("grün".as_bytes()), "grün");
    }

    #[test]
    fn unescape_refuses_what_escape_does_not_write() {
        for text in [
            "\\",
            "\\x",
            "\\xg0",
            "\\q",
            "\\u{",
            "\\u{110000}",
            "\\u41",
            "\\xff",
        ] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn unescape_reverts_escape(text in ".{0,64}") {
            prop_assert_eq!(unescape(&escape(text.as_bytes())), Some(text));
        }

        #[test]
        fn escape_leaves_no_control_character(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(!escape(&bytes).chars().any(char::is_control));
        }
    }
}
